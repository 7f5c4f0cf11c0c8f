//! The storage seam over one bucket and prefix.
//!
//! One object is one blob, put by one request (never in parts: a part upload that is given up
//! would stay in the bucket and cost money). Timestamps are cut to seconds: a HEAD knows no more,
//! and a listing must say the same.

use super::failure::from_crate;
use super::keys::Keys;
use super::listing::{self, Depth, Lister};
use super::pacing::LetPass;
use super::protection::Protector;
use super::runtime::block_on;
use crate::blob::collecting::CollectingWriter;
use crate::blob::layers::throttling::{Flow, Throttle};
use crate::blob::storage::{BlobMetadata, BlobWriter, BucketProtection, PutOptions, RetentionMode, Storage};
use crate::error::{Error, ErrorKind, Result};
use ::object_store::{
    Attribute, Attributes, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutPayload,
};
use bytes::Bytes;
use futures_util::StreamExt;
use kopia_format::{BlobId, Timestamp};
use std::num::NonZeroUsize;
use std::sync::Arc;

const CONTENT_TYPE: &str = "application/x-kopia";
/// Slices of the throttle that one read asks for: with what may pass at once, 7.5 % of two seconds.
const REQUEST_SLICES: u64 = 2;
/// What is asked for at a time once a limit is lifted in mid-read.
const LIFTED_SLICE_BYTES: u64 = 64 << 20;

/// A page of a listing, and what the next one is asked for with.
type Page = (Vec<BlobMetadata>, Option<String>);

/// Blobs of one bucket and prefix; clones share connections and credentials.
#[derive(Clone)]
pub struct ObjectStorage {
    store: Arc<dyn ObjectStore>,
    lister: Arc<Lister>,
    keys: Keys,
    location: String,
    /// Where objects can be locked.
    pub(super) protector: Option<Arc<Protector>>,
    /// What reads ask before they ask the storage.
    pub(super) throttle: Option<Arc<Throttle>>,
    /// Blobs that a page of a listing is to have.
    page_length: Option<NonZeroUsize>,
}

impl std::fmt::Debug for ObjectStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectStorage").field("location", &self.location).finish_non_exhaustive()
    }
}

impl ObjectStorage {
    /// `store` and `lister` go to the same bucket. `location` is for messages.
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        lister: Lister,
        keys: Keys,
        location: String,
        page_length: Option<NonZeroUsize>,
        throttle: Option<Arc<Throttle>>,
    ) -> Self {
        Self { store, lister: Arc::new(lister), keys, location, protector: None, throttle, page_length }
    }

    /// Runs a request for `id`, and says in its error which blob it was.
    fn request<T>(
        &self,
        doing: &str,
        id: &BlobId,
        request: impl Future<Output = ::object_store::Result<T>>,
    ) -> Result<T> {
        block_on(async { request.await.map_err(|error| self.about(doing, id, from_crate(&error))) })
    }

    fn about(&self, doing: &str, id: &BlobId, error: Error) -> Error {
        let error = if error.kind == ErrorKind::BlobNotFound {
            Error::new(error.kind, format!("blob {id} not found in {}", self.location))
        } else {
            error.while_doing(format!("cannot {doing} blob {id} of {}", self.location))
        };
        error.with("blob", id)
    }

    fn metadata_of(&self, id: BlobId, meta: &ObjectMeta) -> BlobMetadata {
        let seconds = meta.last_modified.timestamp();
        BlobMetadata { id, length: meta.size, timestamp: Timestamp { seconds, nanoseconds: 0 } }
    }

    /// One page of the objects and folders (names that end in `/`) right below `prefix`, and how the next one
    /// is asked for.
    pub(super) fn folder_page(&self, prefix: &str, token: Option<&str>) -> Result<Page> {
        let (listed, next) = self.listed(prefix, token, Depth::Folder)?;
        let mut found = Vec::with_capacity(listed.len());
        for one in listed {
            let name = self.keys.name(&one.key).map_err(|error| self.about_listing(prefix, error))?;
            // The marker of the folder itself is nothing in it.
            if name != prefix {
                let id = BlobId::new(name);
                found.push(BlobMetadata { id, length: one.length, timestamp: one.modified });
            }
        }
        Ok((found, next))
    }

    /// Replaces `out` by `length` bytes from `offset`, or as many as there are.
    pub(super) fn get_up_to(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        match self.slice_bytes() {
            Some(_) => self.get_in_slices(id, offset, length, out),
            None => self.append_range(id, offset, length, out, false),
        }
        .map(drop)
    }

    /// One page of a listing, and how the next one is asked for.
    fn page(&self, prefix: &str, token: Option<&str>) -> Result<Page> {
        let (listed, next) = self.listed(prefix, token, Depth::All)?;
        let mut blobs = Vec::with_capacity(listed.len());
        for one in listed {
            let blob = self.keys.blob(&one.key).map_err(|error| self.about_listing(prefix, error))?;
            blobs.extend(blob.map(|id| BlobMetadata { id, length: one.length, timestamp: one.modified }));
        }
        Ok((blobs, next))
    }

    /// What the storage answers to one request of a listing.
    fn listed(&self, prefix: &str, token: Option<&str>, depth: Depth) -> Result<listing::Page> {
        let key = self.keys.key(prefix);
        let page = block_on(self.lister.page(&key, self.page_length, token, depth));
        let (listed, next) = page.map_err(|error| self.about_listing(prefix, error))?;
        if next.is_some() && next.as_deref() == token {
            // It would go on so for ever.
            let message = "the storage asks for the same page again and again";
            return Err(self.about_listing(prefix, Error::new(ErrorKind::Storage, message)));
        }
        Ok((listed, next))
    }

    fn about_listing(&self, prefix: &str, error: Error) -> Error {
        needs_bucket(error).while_doing(format!("cannot list {prefix:?} in {}", self.location))
    }
}

/// Reads under a limit: what was asked for comes as fast as the network is and fills its buffers, so that only a
/// little is asked for at a time, after the throttle has let it pass.
impl ObjectStorage {
    /// Bytes of one request, if there is a limit.
    fn slice_bytes(&self) -> Option<u64> {
        self.throttle.as_ref()?.slice_bytes(Flow::Download).map(|slice| slice * REQUEST_SLICES)
    }

    /// Waits until `length` bytes may come.
    fn let_pass(&self, length: u64) -> Result<()> {
        self.throttle.as_ref().map_or(Ok(()), |throttle| throttle.pass(Flow::Download, length))
    }

    /// Reads from `offset` on into the empty `out` until `length` bytes or the blob's end have come; the blob's length.
    fn get_in_slices(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<u64> {
        let mut end = length;
        loop {
            let done = out.len() as u64;
            let wanted = (end - done).min(self.slice_bytes().unwrap_or(LIFTED_SLICE_BYTES));
            self.let_pass(wanted)?;
            let size = self.append_range(id, offset + done, wanted, out, true)?;
            end = end.min(size.saturating_sub(offset));
            let came = out.len() as u64;
            // An answer shorter than it should be is the caller's to judge.
            if came >= end || came < done + wanted {
                return Ok(size);
            }
            if let Some(throttle) = &self.throttle {
                throttle.pass(Flow::Requests, 1)?;
            }
        }
    }

    /// Appends the bytes of one request; the length of the whole blob.
    fn append_range(
        &self,
        id: &BlobId,
        offset: u64,
        length: u64,
        out: &mut Vec<u8>,
        is_let_pass: bool,
    ) -> Result<u64> {
        let path = self.keys.path(id)?;
        let range = Some(GetRange::Bounded(offset..offset + length));
        let mut options = GetOptions { range, ..GetOptions::default() };
        if is_let_pass {
            options.extensions.insert(LetPass);
        }
        self.request("get a range of", id, async {
            let answer = self.store.get_opts(&path, options).await?;
            let size = answer.meta.size;
            receive(answer, out).await?;
            Ok(size)
        })
    }
}

/// What a put or a listing does not find can only be the bucket, whatever words the storage has for it.
fn needs_bucket(error: Error) -> Error {
    if error.kind != ErrorKind::BlobNotFound {
        return error;
    }
    Error::new(ErrorKind::Storage, format!("{error}: create the bucket, or correct its name"))
}

/// Appends the body of `answer` to `out`; exactly as many bytes as were announced.
async fn receive(answer: GetResult, out: &mut Vec<u8>) -> ::object_store::Result<()> {
    let length = answer.range.end - answer.range.start;
    // An announced length is not yet a received one: do not trust it with memory without bound.
    out.reserve(usize::try_from(length).unwrap_or(0).min(64 << 20));
    let before = out.len();
    let mut stream = answer.into_stream();
    while let Some(piece) = stream.next().await {
        out.extend_from_slice(&piece?);
    }
    let came = out.len() - before;
    if came as u64 == length {
        return Ok(());
    }
    let message = format!("{came} of {length} bytes came");
    let error = Error::new(ErrorKind::Storage, message).temporary();
    Err(::object_store::Error::Generic { store: "body", source: Box::new(error) })
}

impl Storage for ObjectStorage {
    fn get(&self, id: &BlobId, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        // Blobs that are replaced in place are read at once, lest two versions be mixed.
        if self.slice_bytes().is_some() && !id.as_str().starts_with("kopia.") {
            match self.get_in_slices(id, 0, u64::MAX, out) {
                // Nothing can be asked of a blob without bytes.
                Err(error) if error.kind == ErrorKind::InvalidRange && out.is_empty() => {}
                result => return result.map(drop),
            }
        }
        let path = self.keys.path(id)?;
        self.request("get", id, async { receive(self.store.get(&path).await?, out).await })
    }

    fn get_range(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let outside = |size: u64| {
            let message = format!("blob {id} has {size} bytes, {length} from offset {offset} were asked for");
            Error::new(ErrorKind::InvalidRange, message).with("blob", id)
        };
        if length == 0 || offset.checked_add(length).is_none() {
            // HTTP has no range without bytes.
            let size = self.metadata(id)?.length;
            return if length == 0 && offset <= size { Ok(()) } else { Err(outside(size)) };
        }
        let size = match self.slice_bytes() {
            Some(_) => self.get_in_slices(id, offset, length, out)?,
            None => self.append_range(id, offset, length, out, false)?,
        };
        if out.len() as u64 == length { Ok(()) } else { Err(outside(size)) }
    }

    fn metadata(&self, id: &BlobId) -> Result<BlobMetadata> {
        let path = self.keys.path(id)?;
        let meta = self.request("look up", id, self.store.head(&path))?;
        Ok(self.metadata_of(id.clone(), &meta))
    }

    fn put(&self, id: &BlobId, pieces: &[&[u8]], options: &PutOptions) -> Result<()> {
        self.put_shared(id, &[pieces.concat().into()], options)
    }

    fn put_shared(&self, id: &BlobId, pieces: &[Bytes], options: &PutOptions) -> Result<()> {
        let path = self.keys.path(id)?;
        let mode = if options.do_not_replace { PutMode::Create } else { PutMode::Overwrite };
        let attributes = Attributes::from_iter([(Attribute::ContentType, CONTENT_TYPE)]);
        let mut request = ::object_store::PutOptions { mode, attributes, ..Default::default() };
        if let Some(retention) = options.retention {
            if self.protector.is_none() {
                let message = format!("{} has no object lock: blob {id} cannot be kept by it", self.location);
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
            request.extensions.insert(retention);
        }
        let payload = PutPayload::from_iter(pieces.iter().cloned());
        let put = async {
            let done = self.store.put_opts(&path, payload, request).await;
            done.map(drop).map_err(|error| {
                let doing = format!("cannot put blob {id} of {}", self.location);
                needs_bucket(from_crate(&error)).while_doing(doing).with("blob", id)
            })
        };
        block_on(put)
    }

    fn create(&self, id: &BlobId, options: &PutOptions) -> Result<Box<dyn BlobWriter>> {
        Ok(Box::new(CollectingWriter::new(self.clone(), id, options)))
    }

    fn delete(&self, id: &BlobId) -> Result<()> {
        let path = self.keys.path(id)?;
        match self.request("delete", id, self.store.delete(&path)) {
            Err(error) if error.kind == ErrorKind::BlobNotFound => Ok(()),
            result => result,
        }
    }

    fn extend_retention(&self, id: &BlobId, mode: RetentionMode, period: std::time::Duration) -> Result<()> {
        let Some(protector) = &self.protector else {
            let message = format!("{} cannot extend the object lock of blob {id}", self.location);
            return Err(Error::new(ErrorKind::UnsupportedFormat, message).with("blob", id));
        };
        protector
            .extend(&self.keys.key(id.as_str()), mode, period)
            .map_err(|error| self.about("extend the lock of", id, error))
    }

    fn protection(&self) -> Result<Option<BucketProtection>> {
        self.protector.as_ref().map_or(Ok(None), |protector| protector.of_bucket())
    }

    /// Pages are fetched as `each` goes along; no request is under way while `each` runs.
    fn list(&self, prefix: &str, each: &mut dyn FnMut(BlobMetadata) -> Result<()>) -> Result<()> {
        let mut token = None;
        loop {
            if self.throttle.as_ref().is_some_and(|throttle| throttle.is_canceled()) {
                return Err(Error::new(ErrorKind::Canceled, "canceled"));
            }
            let (blobs, next) = self.page(prefix, token.as_deref())?;
            blobs.into_iter().try_for_each(&mut *each)?;
            token = next;
            if token.is_none() {
                return Ok(());
            }
        }
    }

    /// A put that was answered is durable.
    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        self.location.clone()
    }
}
