//! Where requests take long they go side by side; what must not be stored before something else still is not.

mod support;

use kopia_engine::blob::Storage;
use kopia_engine::blob::memory::MemoryStorage;
use kopia_engine::content::{GroupReader, ReadTraffic, WriteScratch};
use kopia_engine::repository::Repository;
use kopia_format::compression::CompressorId;
use kopia_format::{BlobId, ContentId};
use kopia_testing::data::splitmix;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use support::far::FarStorage;
use support::{blobs, create_in, create_options, open};

fn far_repository() -> (FarStorage, Arc<Repository>) {
    let far = FarStorage::default();
    let storage: Arc<dyn Storage> = Arc::new(far.clone());
    create_in(&storage, &create_options());
    let repository = open(&storage);
    far.log.lock().clear();
    (far, repository)
}

fn put(repository: &Repository, prefix: Option<u8>, data: &[u8]) -> ContentId {
    let scratch = &mut WriteScratch::default();
    repository.contents().write(prefix, data.to_vec(), CompressorId::NONE, scratch).expect("written")
}

#[test]
fn marker_and_packs_go_together_then_the_index_and_the_end_of_the_session() {
    let (far, repository) = far_repository();
    for round in 0..5_u8 {
        put(&repository, None, &[round; 100]);
        put(&repository, Some(b'k'), &[round; 200]);
        repository.flush().expect("flushed");
        let log = std::mem::take(&mut *far.log.lock());
        let at = |start: &str| log.iter().position(|what| what.starts_with(start)).expect(start);
        let index = at("begin put xn0_");
        assert!(["end put s", "end put p", "end put q"].into_iter().all(|put| at(put) < index), "{log:?}");
        assert!(
            ["end put s", "end put p", "end put q"].into_iter().all(|put| at(put) < at("begin delete s"))
        );
        let listings = log.iter().filter(|what| what.starts_with("begin list")).count();
        assert_eq!(listings, 1, "the epoch is listed once where no time has passed: {log:?}");
    }
    let storage: Arc<dyn Storage> = Arc::new(far);
    assert_eq!(blobs(&storage, "s"), [], "no session marker stays");
}

#[test]
fn neighbours_and_strangers_are_read_side_by_side_and_each_is_right() {
    let (far, repository) = far_repository();
    let mut ids = Vec::new();
    for number in 0..60_u64 {
        ids.push(put(&repository, None, &splitmix(number, 5_000 + 100 * number as usize)));
        if number % 20 == 19 {
            repository.flush().expect("flushed");
        }
    }
    let reader = open(&(Arc::new(far) as Arc<dyn Storage>));
    // Every third is left out, so that each pack has gaps.
    let wanted = ids.iter().enumerate().filter(|(number, _)| number % 3 > 0).map(|(_, id)| id);
    let mut infos: Vec<_> =
        wanted.map(|id| reader.contents().info(id).expect("info").expect("known")).collect();
    infos.sort_by(|a, b| (a.pack.as_str(), a.offset).cmp(&(b.pack.as_str(), b.offset)));
    let traffic = ReadTraffic::default();
    let mut seen = 0;
    GroupReader::new(reader.contents(), &traffic).read(&infos, &mut |index, bytes| {
        let hash = reader.contents().hasher().hash(bytes.expect("read"));
        assert!(hash == *infos[index].id.hash(), "content {index}");
        seen += 1;
    });
    assert_eq!(seen, infos.len());
    assert!(traffic.requests.load(Ordering::Relaxed) > 16, "more segments than threads");
}

#[test]
fn a_remembered_format_blob_that_is_out_of_date_does_no_harm() {
    let (far, repository) = far_repository();
    let id = put(&repository, None, b"kept");
    repository.flush().expect("flushed");
    let other: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    create_in(&other, &create_options());
    let (mut current, mut foreign) = (Vec::new(), Vec::new());
    far.inner.get(&BlobId::new("kopia.repository"), &mut current).expect("got");
    other.get(&BlobId::new("kopia.repository"), &mut foreign).expect("got");
    for remembered in [None, Some(current), Some(foreign), Some(b"no format blob".to_vec())] {
        let storage: Arc<dyn Storage> = Arc::new(FarStorage { remembered, ..far.clone() });
        let mut bytes = Vec::new();
        open(&storage).contents().read(&id, &mut bytes).expect("read");
        assert_eq!(bytes, b"kept");
    }
}
