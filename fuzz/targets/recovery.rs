//! A log image, edited, its checksums mended, opened: no panic, nothing deleted that is not known
//! to be dead, and what was found once is found again.
#![no_main]

use corelane_fuzz::edits::{Source, edit};
use corelane_fuzz::image::{Image, images, load, options, save};
use corelane_fuzz::mend::{self, Which};
use corelane_storage::device::sim::SimDisk;
use corelane_storage::device::{Blocking, File};
use corelane_storage::recovery::{Damage, OpenError, Recovery, Replayed};
use corelane_storage::segment::{HeaderState, SegmentHeader};
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

static IMAGES: OnceLock<Vec<Image>> = OnceLock::new();

#[derive(Debug, PartialEq, Eq)]
struct Found {
    records: Vec<(u64, u32)>,
    damaged: Vec<Damage>,
}

impl Found {
    /// The writes that are lost. Where one stretch of damage ends and the next begins is told as
    /// far as it is known, which differs once the frontier has been moved past them.
    fn lost(&self) -> Vec<(u64, u64)> {
        let mut lost: Vec<(u64, u64)> = Vec::new();
        for damage in &self.damaged {
            match lost.last_mut() {
                Some((_, end)) if *end == damage.first_write => *end = damage.end_write,
                _ => lost.push((damage.first_write, damage.end_write)),
            }
        }
        lost
    }
}

fn reopen(disk: &mut SimDisk, seed: u64) -> Result<Found, OpenError> {
    let mut recovery = Recovery::open(disk, options(), seed)?;
    let mut found = Found { records: Vec::new(), damaged: Vec::new() };
    if let Some(checkpoint) = recovery.checkpoint() {
        let _ = recovery.read(disk, checkpoint.root, checkpoint.root_len);
    }
    while let Some(replayed) = recovery.next(disk)? {
        match replayed {
            Replayed::Record { position, len, record, .. } => {
                record.verify().expect("only verified records are delivered");
                let at = u64::from(position.segment.0) << 32 | u64::from(position.offset);
                found.records.push((at, len));
            }
            Replayed::Damaged(damage) => found.damaged.push(damage),
        }
    }
    let (mut log, report) = recovery.finish(disk)?;
    assert_eq!(report.damaged, found.damaged);
    let _ = log.finish_restore();
    Ok(found)
}

/// Files whose headers are not readable: they are somebody's, and must stay.
fn unreadable(image: &Image) -> Vec<File> {
    let unreadable = |bytes: &[u8]| {
        let mut head = vec![0; 8192];
        let len = bytes.len().min(8192);
        head[..len].copy_from_slice(&bytes[..len]);
        SegmentHeader::judge(&head, 4096) == HeaderState::Corrupt
    };
    let segments = image.iter().filter(|(file, _)| *file != File::Superblock);
    segments.filter(|(_, bytes)| unreadable(bytes)).map(|(file, _)| *file).collect()
}

fuzz_target!(|data: &[u8]| {
    let mut source = Source(data);
    let mut image = IMAGES.get_or_init(images)[usize::from(source.byte()) % 4].clone();
    let which = Which(source.byte());
    for _ in 0..12 {
        if source.is_over() {
            break;
        }
        let at = usize::from(source.byte()) % image.len();
        edit(&mut source, &mut image[at].1);
    }
    for (file, bytes) in &mut image {
        match file {
            File::Superblock => {
                // Its file is made once, at its size, and zeroes are what a lost end reads as.
                bytes.resize(128 << 10, 0);
                mend::superblock(bytes, which);
                // Both copies the same, unless told otherwise.
                if which.0 & 1 << 6 == 0 {
                    let (first, second) = bytes.split_at_mut(64 << 10);
                    second.copy_from_slice(first);
                }
            }
            File::Segment(_) => mend::segment(bytes, 4096, which),
        }
        let len = bytes.len() & !511;
        bytes.truncate(len);
    }
    let keep = unreadable(&image);
    let mut disk = load(&image);
    let opened = reopen(&mut disk, 11);
    for file in keep {
        assert!(disk.file_len(file).is_ok_and(|len| len.is_some()), "{file:?} was deleted");
    }
    match opened {
        Ok(first) => {
            let second = reopen(&mut disk, 12).expect("opens again");
            assert_eq!(first.records, second.records, "what was found is found again");
            assert_eq!(first.lost(), second.lost(), "what was lost is told again");
        }
        Err(_) => {
            // Refused: and nothing was changed that changes the answer.
            let before = save(&mut disk);
            assert!(reopen(&mut disk, 12).is_err(), "refused and then accepted");
            assert!(before == save(&mut disk), "changed by a refusal");
        }
    }
});
