//! Records, frames, writes and headers: valid bytes edited, their checksums mended.
#![no_main]

use corelane_fuzz::edits::{Source, edit};
use corelane_fuzz::image::{Image, images};
use corelane_fuzz::mend::{self, Which};
use corelane_storage::device::File;
use corelane_storage::envelope::Envelope;
use corelane_storage::fuzzing::{walk, write_is_whole};
use corelane_storage::record::{RECORD_ALIGN, RecordView};
use corelane_storage::segment::SegmentHeader;
use corelane_storage::superblock::Superblock;
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

static IMAGES: OnceLock<Vec<Image>> = OnceLock::new();

fn superblock(bytes: &[u8]) {
    let Some(read) = Superblock::decode(bytes) else { return };
    let mut out = vec![0; read.length()];
    read.encode(&mut out);
    assert_eq!(Superblock::decode(&out), Some(read));
}

fn header(bytes: &[u8]) {
    let Some(read) = SegmentHeader::decode(bytes) else { return };
    let mut out = vec![0; 512];
    read.encode(&mut out);
    assert_eq!(SegmentHeader::decode(&out), Some(read));
}

fn write(bytes: &[u8], key: u64) {
    let Some(envelope) = Envelope::decode(bytes, key) else { return };
    let mut out = [0; 96];
    envelope.encode(key, &mut out);
    assert_eq!(Envelope::decode(&out, key).as_ref(), Some(&envelope));
    let Some(write) = bytes.get(..envelope.length as usize) else { return };
    let walked = walk(write);
    if write_is_whole(&envelope, write) {
        assert_eq!(walked, (u64::from(envelope.records), false));
    }
}

fuzz_target!(|data: &[u8]| {
    let mut source = Source(data);
    let image = &IMAGES.get_or_init(images)[usize::from(source.byte()) % 4];
    let (file, bytes) = &image[usize::from(source.byte()) % image.len()];
    let which = Which(source.byte());
    let mut bytes = bytes.clone();
    for _ in 0..16 {
        if source.is_over() {
            break;
        }
        edit(&mut source, &mut bytes);
    }
    if *file == File::Superblock {
        mend::superblock(&mut bytes, which);
        superblock(&bytes);
        return;
    }
    mend::segment(&mut bytes, 4096, which);
    header(&bytes);
    let key = bytes.get(72..80).map_or(0, |b| Source(b).number(8));
    for at in (0..bytes.len()).step_by(4096) {
        write(&bytes[at..], key);
    }
    for at in (8192..bytes.len().min(10_240)).step_by(RECORD_ALIGN) {
        if let Ok(record) = RecordView::decode(&bytes[at..]) {
            let _ = (record.verify(), format!("{record:?}").len());
        }
    }
});
