//! Read-only looks at contents and blobs, for `mover content|blob|index`.

use crate::batches::Batches;
use crate::documents;
use crate::errors::{Result, argument, invalid};
use kopia_engine::repository::Repository;
use kopia_engine::{Error, ErrorKind};
use kopia_format::index::IndexReader;
use kopia_format::{BlobId, ContentId, index_blob};
use std::sync::Arc;

pub(crate) fn list_contents(
    repository: Arc<Repository>,
    prefix: &str,
    include_deleted: bool,
) -> Result<Batches> {
    let prefix = match prefix.as_bytes() {
        [] => None,
        [letter @ b'g'..=b'z'] => Some(*letter),
        _ => return Err(invalid(format!("{prefix:?} is not a prefix of contents: one letter from g to z"))),
    };
    Batches::produce(move |each| {
        let mut give = |info| each(documents::content(&info).to_string());
        match prefix {
            None => repository.contents().for_each(include_deleted, &mut give),
            Some(prefix) => repository.contents().for_each_prefixed(prefix, include_deleted, &mut give),
        }
    })
}

pub(crate) fn content_info(repository: &Repository, id: &str) -> Result<String> {
    let info = repository.contents().info(&ContentId::parse(id).map_err(argument)?)?;
    let missing = || Error::new(ErrorKind::ContentNotFound, format!("content {id} is in no index"));
    Ok(documents::content(&info.ok_or_else(missing)?).to_string())
}

pub(crate) fn content(repository: &Repository, id: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    repository.contents().read_hashed(&ContentId::parse(id).map_err(argument)?, &mut bytes)?;
    Ok(bytes)
}

pub(crate) fn list_blobs(repository: Arc<Repository>, prefix: String) -> Result<Batches> {
    Batches::produce(move |each| {
        repository.storage().list(&prefix, &mut |blob| each(documents::blob(&blob).to_string()))
    })
}

pub(crate) fn blob(repository: &Repository, id: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    repository.storage().get(&BlobId::new(id), &mut bytes)?;
    Ok(bytes)
}

/// The entries of an index blob.
pub(crate) fn index_entries(repository: Arc<Repository>, id: &str) -> Result<Batches> {
    let id = BlobId::new(id);
    let mut sealed = Vec::new();
    repository.storage().get(&id, &mut sealed)?;
    let opened = index_blob::open_blob(&repository.config().content_sealer()?, &id, &mut sealed)?.to_vec();
    let reader = IndexReader::open(opened)?;
    Batches::produce(move |each| {
        for entry in reader.entries() {
            each(documents::index_entry(&reader.name(&entry?)?).to_string())?;
        }
        Ok(())
    })
}
