//! All tensors of a conversion, several at a time: workers take jobs, largest first, within one budget of memory.
//!
//! Every output has its place in its file before anything is written, so the order in which workers finish changes no byte.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::checkpoint::TensorSource;
use crate::error::ConvertError;
use crate::plan::Plan;
use crate::progress::Progress;

use super::shards::Shard;
use super::worker::{Shared, Slot, Worker};

/// Memory of all workers together unless told otherwise, in bytes.
pub const DEFAULT_MEMORY_BYTE_LEN: usize = 96 << 20;
/// The least memory a conversion can be told to take, in bytes.
pub const MIN_MEMORY_BYTE_LEN: usize = 1 << 20;
/// The values of one piece, in bytes, where memory allows.
const PIECE_BYTE_LEN: usize = 4 << 20;
/// A worker's buffers are at most this many times its piece: values, packed words or converted values, the gather's block and the cast's window.
const BUFFERS_PER_PIECE: usize = 3;

/// The files of a conversion while they are written.
pub struct Files {
    open: Vec<(PathBuf, File)>,
}

impl Files {
    /// Creates every file with its header and its full length; none may exist.
    pub fn create(directory: &Path, shards: &[Shard]) -> Result<Self, ConvertError> {
        let mut open = Vec::new();
        for shard in shards {
            let path = directory.join(&shard.file_name);
            let file = File::create_new(&path).map_err(ConvertError::io("create", &path))?;
            let written = std::os::unix::fs::FileExt::write_all_at(&file, &shard.header, 0)
                .and_then(|()| file.set_len(shard.byte_len));
            written.map_err(ConvertError::io("write", &path))?;
            open.push((path, file));
        }
        Ok(Self { open })
    }

    /// Makes sure that every byte is on disk.
    pub fn flush(&self) -> Result<(), ConvertError> {
        self.open.iter().try_for_each(|(path, file)| file.sync_all().map_err(ConvertError::io("flush", path)))
    }

    /// Where each of the plan's tensors goes.
    fn slots<'a>(&'a self, plan: &Plan, shards: &[Shard]) -> Vec<Option<Slot<'a>>> {
        let mut slots = vec![None; plan.tensors.len()];
        for (shard, (path, file)) in shards.iter().zip(&self.open) {
            let mut byte_offset = shard.header.len() as u64;
            for &at in &shard.tensors {
                slots[at] = Some(Slot { file, path, byte_offset });
                byte_offset += plan.tensors[at].byte_len();
            }
        }
        slots
    }

    /// Writes every tensor; their BLAKE3 hashes, in plan order. `memory_byte_len` bounds the buffers of all workers together.
    ///
    /// # Errors
    /// The first error by the plan's order among those that workers met before they stopped.
    pub fn write(
        &self,
        plan: &Plan,
        shards: &[Shard],
        source: &dyn TensorSource,
        memory_byte_len: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<blake3::Hash>, ConvertError> {
        let slots = self.slots(plan, shards);
        let mut jobs = plan.jobs();
        let byte_len = |job: &Range<usize>| plan.tensors[job.clone()].iter().map(|t| t.byte_len()).sum::<u64>();
        jobs.sort_by_key(|job| std::cmp::Reverse(byte_len(job)));
        spread(&mut jobs, shards);
        let (workers, piece_byte_len) = share(memory_byte_len, rayon::current_num_threads());
        let shared = Shared { source, progress, piece_byte_len };
        let queue = Queue { jobs: &jobs, next: AtomicUsize::new(0), failed: AtomicBool::new(false) };
        let results = Mutex::new(Vec::new());
        rayon::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|_| {
                    let mut worker = Worker::with_block_byte_len(piece_byte_len / 4);
                    while let Some(job) = queue.take() {
                        let own: Vec<Slot<'_>> = slots[job.clone()].iter().flatten().copied().collect();
                        let result = worker.make(&plan.tensors[job.clone()], &own, &shared);
                        queue.failed.fetch_or(result.is_err(), Ordering::Relaxed);
                        let mut results = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        results.push((job, result));
                    }
                });
            }
        });
        let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        results.sort_by_key(|(job, _)| job.start);
        let mut hashes = Vec::new();
        for (_, result) in results {
            hashes.extend(result?);
        }
        Ok(hashes)
    }
}

/// Orders jobs so that neighbours go to different files, as far as there are several: a file system lets one thread at a time write to a
/// file. Within a file the order stays.
fn spread(jobs: &mut [Range<usize>], shards: &[Shard]) {
    let numbered = shards.iter().enumerate();
    let file_of: HashMap<usize, usize> =
        numbered.flat_map(|(file, shard)| shard.tensors.iter().map(move |&tensor| (tensor, file))).collect();
    let mut seen = vec![0_usize; shards.len()];
    let rank = |job: Range<usize>| {
        let rank = file_of.get(&job.start).map_or(0, |&file| {
            seen[file] += 1;
            seen[file]
        });
        (rank, job)
    };
    let mut ranked: Vec<(usize, Range<usize>)> = jobs.iter().cloned().map(rank).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    jobs.iter_mut().zip(ranked).for_each(|(place, (_, job))| *place = job);
}

/// Jobs that no worker has taken.
struct Queue<'a> {
    jobs: &'a [Range<usize>],
    next: AtomicUsize,
    failed: AtomicBool,
}

impl Queue<'_> {
    fn take(&self) -> Option<Range<usize>> {
        if self.failed.load(Ordering::Relaxed) {
            return None;
        }
        self.jobs.get(self.next.fetch_add(1, Ordering::Relaxed)).cloned()
    }
}

/// How many workers a memory budget feeds, and how large their pieces are.
fn share(memory_byte_len: usize, threads: usize) -> (usize, usize) {
    let memory = memory_byte_len.max(MIN_MEMORY_BYTE_LEN);
    let workers = (memory / (PIECE_BYTE_LEN * BUFFERS_PER_PIECE)).clamp(1, threads);
    (workers, (memory / workers / BUFFERS_PER_PIECE).min(PIECE_BYTE_LEN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_go_to_different_files() {
        let shard = |tensors: &[usize]| Shard {
            file_name: String::new(),
            header: Vec::new(),
            byte_len: 0,
            tensors: tensors.to_vec(),
        };
        let mut jobs = vec![0..1, 1..2, 2..4, 4..5, 5..6];
        spread(&mut jobs, &[shard(&[0, 1, 2, 3]), shard(&[4, 5])]);
        assert_eq!(jobs, [0..1, 4..5, 1..2, 5..6, 2..4]);
    }

    #[test]
    fn the_budget_is_kept() {
        for memory in [1 << 20, 5 << 20, 64 << 20, 1 << 30] {
            for threads in [1, 2, 16] {
                let (workers, piece) = share(memory, threads);
                assert!(workers >= 1 && workers <= threads && piece >= 256 << 10);
                assert!(workers * piece * BUFFERS_PER_PIECE <= memory);
            }
        }
    }
}
