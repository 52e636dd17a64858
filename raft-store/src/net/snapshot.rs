//! Moving a snapshot file: in frames, each with its checksum, going on where an earlier attempt broke off.

use super::peers::{Client, within};
use crate::metrics::{Counters, add};
use crate::raft::snapshot::{PREFIX_OCTETS, SnapshotDir, SnapshotHandle, read};
use crate::raft::wire::{need_vote, proto};
use crate::raft::{Snapshot, SnapshotMeta, Vote};
use crate::vault::FileKey;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

const FRAME_OCTETS: usize = 256 << 10;
/// Frames read ahead of the network.
const FRAMES_AHEAD: usize = 4;
/// A frame that is not taken for so long means that the peer is gone.
const FRAME_STALL: Duration = Duration::from_secs(5);
/// The receiver checks, syncs and installs the file.
const INSTALL_WITHIN: Duration = Duration::from_secs(120);
/// A longer file is refused before anything is stored.
const FILE_OCTETS_MAX: u64 = 8 << 30;

fn disk(e: &io::Error) -> Status {
    Status::internal(format!("snapshot file: {e}"))
}

/// Sends a snapshot; returns the receiver's vote after it was installed.
pub(super) async fn send(
    mut client: Client,
    vote: Vote,
    snapshot: &Snapshot,
    counters: &Counters,
) -> Result<Vote, Status> {
    let handle = snapshot.snapshot.clone();
    let file = proto::SnapshotProbe {
        last: snapshot.meta.last_log_id.map(Into::into),
        length: handle.length,
        digest: handle.digest.to_vec(),
    };
    let have = within(FRAME_STALL, client.probe_snapshot(file.clone())).await?.have;
    let mut offset = if have <= handle.length { have } else { 0 };
    let (frames, outgoing) = mpsc::channel(FRAMES_AHEAD);
    let mut receiver = client.clone();
    let call = tokio::spawn(async move {
        receiver.snapshot(ReceiverStream::new(outgoing)).await.map(tonic::Response::into_inner)
    });
    let mut first = Some((vote, file));
    loop {
        let frame = read_frame(handle.clone(), offset).await.map_err(|e| disk(&e))?;
        let octets = frame.len() as u64;
        if octets == 0 && first.is_none() {
            break;
        }
        let key = if first.is_some() { handle.key.0.to_vec() } else { Vec::new() };
        let (vote, file) = first.take().map_or((None, None), |(v, f)| (Some(v.into()), Some(f)));
        let crc32c = crc32c::crc32c(&frame);
        let frame = proto::SnapshotFrame { vote, file, offset, data: frame, crc32c, key };
        match tokio::time::timeout(FRAME_STALL, frames.send(frame)).await {
            Ok(Ok(())) => {}
            // The call has ended; its result says why.
            Ok(Err(_)) => break,
            Err(_) => {
                call.abort();
                return Err(Status::deadline_exceeded("the peer takes no more of the snapshot"));
            }
        }
        add(&counters.snapshot_octets_sent, octets);
        offset += octets;
    }
    drop(frames);
    let abort = call.abort_handle();
    let reply = tokio::time::timeout(INSTALL_WITHIN, call).await.map_err(|_| {
        abort.abort();
        Status::deadline_exceeded("the peer does not finish installing the snapshot")
    })?;
    let reply = reply.map_err(|e| Status::internal(e.to_string()))??;
    need_vote(reply.vote).map_err(|e| Status::internal(e.to_string()))
}

async fn read_frame(handle: SnapshotHandle, offset: u64) -> io::Result<Vec<u8>> {
    let read = move || {
        let left = handle.length.saturating_sub(offset);
        let octets = usize::try_from(left).unwrap_or(usize::MAX).min(FRAME_OCTETS);
        let mut frame = vec![0; octets];
        handle.read_at(&mut frame, offset)?;
        Ok(frame)
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

/// How much of the body of `file` an earlier attempt left here.
pub(super) fn probe(dir: &SnapshotDir, file: &proto::SnapshotProbe) -> Result<u64, Status> {
    if file.length > FILE_OCTETS_MAX {
        return Err(Status::invalid_argument(format!("a snapshot of {} octets", file.length)));
    }
    let path = dir.partial(file).map_err(|e| disk(&e))?;
    match std::fs::metadata(&path) {
        Ok(m) => match m.len().checked_sub(PREFIX_OCTETS) {
            Some(have) if have <= file.length => Ok(have),
            Some(_) | None => {
                std::fs::remove_file(&path).map_err(|e| disk(&e))?;
                Ok(0)
            }
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(disk(&e)),
    }
}

/// A whole, checked snapshot that has arrived.
pub(super) struct Received {
    pub(super) vote: Vote,
    pub(super) meta: SnapshotMeta,
    pub(super) handle: SnapshotHandle,
}

/// Takes the frames of a snapshot and checks the whole file.
pub(super) async fn receive(
    dir: &Arc<SnapshotDir>,
    mut frames: Streaming<proto::SnapshotFrame>,
    expected_vote: impl Fn(&Vote) -> Result<(), Status>,
) -> Result<Received, Status> {
    let stalled = || Status::deadline_exceeded("no more of the snapshot arrives");
    let next = async |frames: &mut Streaming<proto::SnapshotFrame>| {
        tokio::time::timeout(2 * FRAME_STALL, frames.message()).await.map_err(|_| stalled())?
    };
    let mut frame =
        next(&mut frames).await?.ok_or_else(|| Status::invalid_argument("no frames"))?;
    let vote = need_vote(frame.vote.take()).map_err(|e| Status::invalid_argument(e.to_string()))?;
    expected_vote(&vote)?;
    let file = frame.file.take().ok_or_else(|| Status::invalid_argument("no file description"))?;
    let key = std::mem::take(&mut frame.key).try_into().map(FileKey);
    let key = key.map_err(|_| Status::invalid_argument("no key"))?;
    let mut have = probe(dir, &file)?;
    let path = dir.partial(&file).map_err(|e| disk(&e))?;
    if have == 0 {
        dir.begin(&path, &key).map_err(|e| disk(&e))?;
    }
    let mut frame = Some(frame);
    while let Some(f) = frame {
        have = store_frame(&path, f, have, file.length).await?;
        frame = next(&mut frames).await?;
    }
    if have != file.length {
        return Err(Status::aborted(format!("{have} of {} octets arrived", file.length)));
    }
    let dir = Arc::clone(dir);
    let check = move || check(&dir, &path, &file);
    let (meta, handle) =
        tokio::task::spawn_blocking(check).await.map_err(|e| Status::internal(e.to_string()))??;
    Ok(Received { vote, meta, handle })
}

async fn store_frame(
    path: &Path,
    frame: proto::SnapshotFrame,
    have: u64,
    length: u64,
) -> Result<u64, Status> {
    let end = have + frame.data.len() as u64;
    if frame.offset != have || end > length {
        return Err(Status::aborted(format!("frame at {}, expected {have}", frame.offset)));
    }
    if crc32c::crc32c(&frame.data) != frame.crc32c {
        return Err(Status::data_loss("the checksum of a frame differs"));
    }
    let path = path.to_owned();
    let append = move || -> io::Result<()> {
        OpenOptions::new().create(true).append(true).open(path)?.write_all(&frame.data)
    };
    tokio::task::spawn_blocking(append)
        .await
        .map_err(|e| Status::internal(e.to_string()))?
        .map_err(|e| disk(&e))?;
    Ok(end)
}

fn check(
    dir: &SnapshotDir,
    path: &Path,
    file: &proto::SnapshotProbe,
) -> Result<(SnapshotMeta, SnapshotHandle), Status> {
    let read = dir.handle(path).and_then(|handle| {
        handle.file.sync_all()?;
        Ok((read(&handle, dir.cluster())?, handle))
    });
    match read {
        Ok((contents, handle)) if contents.meta.last_log_id == file.last.map(Into::into) => {
            Ok((contents.meta, handle))
        }
        Ok(_) => Err(Status::invalid_argument("the snapshot is of another log position")),
        Err(e) => {
            // Resuming would only add to the damage.
            std::fs::remove_file(path).map_err(|e| disk(&e))?;
            Err(Status::data_loss(e.to_string()))
        }
    }
}
