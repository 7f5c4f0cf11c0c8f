//! Snapshot manifests in the repository: save, load, list, delete, pin, tag, expire.
//!
//! What a retention policy keeps is decided in `kopia_format::retention`; here it is carried out.
//! Everything put or deleted is pending until the repository is flushed.

use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Labels;
use crate::repository::Repository;
use jiff::tz::TimeZone;
use kopia_format::policy::{DefinedPolicy, Policy, PolicyTree, target_of_labels};
use kopia_format::retention::{self, RetainedSnapshot};
use kopia_format::snapshot::{SnapshotManifest, SourceInfo};
use kopia_format::{ManifestId, Timestamp};
use std::collections::BTreeSet;

const TYPE_LABEL: &str = "type";
const SNAPSHOT_TYPE: &str = "snapshot";
/// Why a snapshot is incomplete whose source, or a directory of it, was deleted while it was read. No later backup
/// takes such a one as its parent by itself: what is missing in it was never seen to be gone.
pub const SOURCE_DELETED: &str = "source deleted";

/// Saves a manifest under a new ID.
///
/// # Errors
/// `InvalidArgument` if host, user or path is empty or a tag has the name of a label.
pub fn save(repository: &Repository, manifest: &SnapshotManifest) -> Result<ManifestId> {
    let SourceInfo { host, user_name, path } = &manifest.source;
    for (value, what) in [(host, "host"), (user_name, "user name"), (path, "path")] {
        if value.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("cannot save a snapshot without a {what}"),
            ));
        }
    }
    repository.manifests().put(manifest.labels()?, &manifest.encode())
}

/// Loads one snapshot.
///
/// # Errors
/// `ManifestNotFound`, also if the manifest is not a snapshot's.
pub fn load(repository: &Repository, id: &ManifestId) -> Result<SnapshotManifest> {
    let (metadata, payload) = repository.manifests().get(id)?;
    if metadata.labels.get(TYPE_LABEL).map(String::as_str) != Some(SNAPSHOT_TYPE) {
        return Err(Error::new(ErrorKind::ManifestNotFound, format!("manifest {id} is not a snapshot")));
    }
    Ok(SnapshotManifest::decode(payload.get().as_bytes(), id.clone())?)
}

/// Snapshots of a source (of all sources if `None`) that have all `tags`, by start time.
/// Manifests that cannot be parsed are passed over with a warning, as Kopia does.
///
/// # Errors
/// What reading manifests says.
pub fn list(
    repository: &Repository,
    source: Option<&SourceInfo>,
    tags: &Labels,
) -> Result<Vec<SnapshotManifest>> {
    let mut labels = source.map_or_else(Labels::new, source_labels);
    labels.insert(TYPE_LABEL.into(), SNAPSHOT_TYPE.into());
    labels.extend(tags.iter().map(|(key, value)| (key.clone(), value.clone())));
    let mut snapshots = Vec::new();
    for metadata in repository.manifests().find(&labels)? {
        match load(repository, &metadata.id) {
            Ok(snapshot) => snapshots.push(snapshot),
            Err(error) if error.kind == ErrorKind::Corrupted => {
                tracing::warn!(id = %metadata.id, %error, "cannot parse a snapshot manifest");
            }
            Err(error) => return Err(error),
        }
    }
    snapshots.sort_by_key(|snapshot| (snapshot.start_time, snapshot.end_time));
    Ok(snapshots)
}

fn source_labels(source: &SourceInfo) -> Labels {
    let mut labels = Labels::from([("hostname".to_owned(), source.host.clone())]);
    for (key, value) in [("username", &source.user_name), ("path", &source.path)] {
        if !value.is_empty() {
            labels.insert(key.into(), value.clone());
        }
    }
    labels
}

/// The parents of a new snapshot: the newest complete one of the source, then all incomplete ones
/// that were started after it, but for those whose source was deleted meanwhile. Snapshots started after `no_later_than` are left out.
/// Source: Kopia `snapshot/manager.go`.
///
/// # Errors
/// What reading manifests says.
pub fn find_previous(
    repository: &Repository,
    source: &SourceInfo,
    no_later_than: Option<Timestamp>,
) -> Result<Vec<SnapshotManifest>> {
    Ok(choose_previous(list(repository, Some(source), &Labels::new())?, no_later_than))
}

/// As `find_previous`, among given snapshots in order of start time.
fn choose_previous(
    snapshots: Vec<SnapshotManifest>,
    no_later_than: Option<Timestamp>,
) -> Vec<SnapshotManifest> {
    let in_time =
        |snapshot: &SnapshotManifest| no_later_than.is_none_or(|limit| snapshot.start_time <= limit);
    let of_a_whole = |snapshot: &SnapshotManifest| snapshot.incomplete_reason != SOURCE_DELETED;
    let (complete, incomplete): (Vec<_>, Vec<_>) = snapshots
        .into_iter()
        .filter(in_time)
        .filter(of_a_whole)
        .partition(|snapshot| snapshot.incomplete_reason.is_empty());
    let newest = complete.into_iter().max_by_key(|snapshot| snapshot.start_time);
    // Without a complete one Kopia compares with the zero time of its clock, the epoch.
    let after = newest.as_ref().map_or_else(Timestamp::default, |snapshot| snapshot.start_time);
    let later = incomplete.into_iter().filter(|snapshot| snapshot.start_time > after);
    newest.iter().cloned().chain(later).collect()
}

/// Deletes a snapshot's manifest; its data goes with maintenance.
///
/// # Errors
/// `ManifestNotFound`.
pub fn delete(repository: &Repository, id: &ManifestId) -> Result<()> {
    load(repository, id)?;
    repository.manifests().delete(id)
}

/// Changes pins, tags or description of a snapshot: saved under a new ID, which is given, and the old one deleted.
///
/// # Errors
/// `ManifestNotFound`; as `save`.
pub fn update(
    repository: &Repository,
    id: &ManifestId,
    change: impl FnOnce(&mut SnapshotManifest),
) -> Result<ManifestId> {
    let before = load(repository, id)?;
    let mut snapshot = before.clone();
    change(&mut snapshot);
    if snapshot == before {
        return Ok(id.clone());
    }
    let new = save(repository, &snapshot)?;
    repository.manifests().delete(id)?;
    Ok(new)
}

/// Adds and removes pins.
///
/// # Errors
/// As `update`.
pub fn pin(
    repository: &Repository,
    id: &ManifestId,
    add: &[String],
    remove: &[String],
) -> Result<ManifestId> {
    update(repository, id, |snapshot| {
        snapshot.pins.retain(|pin| !remove.contains(pin));
        snapshot.pins.extend(add.iter().filter(|pin| !remove.contains(pin)).cloned());
        snapshot.pins.sort();
        snapshot.pins.dedup();
    })
}

/// Sets tags (`Some`) and removes them (`None`).
///
/// # Errors
/// As `update`.
pub fn tag(
    repository: &Repository,
    id: &ManifestId,
    changes: &[(String, Option<String>)],
) -> Result<ManifestId> {
    update(repository, id, |snapshot| {
        for (key, value) in changes {
            match value {
                Some(value) => snapshot.tags.insert(key.clone(), value.clone()),
                None => snapshot.tags.remove(key),
            };
        }
    })
}

/// All policies of the repository, in the order of modification.
///
/// # Errors
/// What reading manifests says; a policy that cannot be parsed.
pub fn policies(repository: &Repository) -> Result<Vec<DefinedPolicy>> {
    let labels = Labels::from([(TYPE_LABEL.to_owned(), "policy".to_owned())]);
    let mut policies = Vec::new();
    for metadata in repository.manifests().find(&labels)? {
        let (metadata, payload) = repository.manifests().get(&metadata.id)?;
        let policy = Policy::decode(payload.get().as_bytes())?;
        policies.push(DefinedPolicy { target: target_of_labels(&metadata.labels), policy });
    }
    Ok(policies)
}

/// What is in force for a source (or, with empty parts, for a user, a host, everything).
///
/// # Errors
/// As [`policies`].
pub fn effective_policy(repository: &Repository, source: &SourceInfo) -> Result<Policy> {
    let policies = PolicyTree::for_source(source, &policies(repository)?);
    Ok(policies.effective_policy().clone())
}

/// Why each snapshot of a source is kept: `daily-3`, `incomplete`; of those that would expire nothing.
///
/// # Errors
/// As [`apply_retention`].
pub fn retention_reasons(
    repository: &Repository,
    source: &SourceInfo,
) -> Result<Vec<(ManifestId, Vec<String>)>> {
    let snapshots = list(repository, Some(source), &Labels::new())?;
    let policy = effective_policy(repository, source)?.retention;
    let reasons = retention::retention_reasons(&policy, &retained(&snapshots), &TimeZone::system());
    let ids = snapshots.into_iter().map(|snapshot| snapshot.id);
    Ok(ids.zip(reasons).filter_map(|(id, reasons)| Some((id?, reasons))).collect())
}

/// What retention needs to know of snapshots.
fn retained(snapshots: &[SnapshotManifest]) -> Vec<RetainedSnapshot> {
    let known = snapshots.iter().map(|snapshot| RetainedSnapshot {
        start_time: snapshot.start_time,
        end_time: snapshot.end_time,
        is_complete: snapshot.incomplete_reason.is_empty(),
        is_pinned: !snapshot.pins.is_empty(),
    });
    known.collect()
}

/// Deletes the snapshots of a source that its retention policy does not keep and that have no pin;
/// gives them. With `dry_run` nothing is deleted.
///
/// # Errors
/// What reading manifests says.
pub fn apply_retention(
    repository: &Repository,
    source: &SourceInfo,
    dry_run: bool,
) -> Result<Vec<ManifestId>> {
    let snapshots = list(repository, Some(source), &Labels::new())?;
    let policy = effective_policy(repository, source)?.retention;
    let expired = retention::expired(&policy, &retained(&snapshots), &TimeZone::system());
    let expired: Vec<ManifestId> = expired.into_iter().filter_map(|at| snapshots[at].id.clone()).collect();
    if !dry_run {
        for id in &expired {
            repository.manifests().delete(id)?;
        }
    }
    Ok(expired)
}

/// Applies retention to every source of the repository that has snapshots; gives what expired.
///
/// # Errors
/// As `apply_retention`.
pub fn apply_retention_to_all(repository: &Repository, dry_run: bool) -> Result<Vec<ManifestId>> {
    let sources: BTreeSet<SourceInfo> =
        list(repository, None, &Labels::new())?.into_iter().map(|snapshot| snapshot.source).collect();
    let mut expired = Vec::new();
    for source in &sources {
        expired.extend(apply_retention(repository, source, dry_run)?);
    }
    Ok(expired)
}
