//! A disk that stops working after so many operations: a crash in the middle of recovery.

use corelane_storage::device::sim::SimDisk;
use corelane_storage::device::{Blocking, DeviceError, File, Fill, Slot};

/// When a disk stops.
#[derive(Clone, Copy, Debug)]
pub enum Blows {
    Never,
    /// After so many operations.
    After(u64),
    /// After so many writes and flushes of the superblock: it is flushed once before it is read.
    InSuperblock(u64),
}

/// A disk that stops.
pub struct Fuse<'a> {
    disk: &'a mut SimDisk,
    blows: Blows,
    blown: bool,
}

impl<'a> Fuse<'a> {
    /// A disk that stops then.
    pub fn new(disk: &'a mut SimDisk, blows: Blows) -> Self {
        Fuse { disk, blows, blown: false }
    }

    /// Whether it stopped.
    pub fn is_blown(&self) -> bool {
        self.blown
    }

    fn burn(&mut self) -> Result<&mut SimDisk, DeviceError> {
        let Blows::After(left) = &mut self.blows else { return self.go_on() };
        match left.checked_sub(1) {
            Some(fewer) => *left = fewer,
            None => self.blown = true,
        }
        self.go_on()
    }

    /// As `burn`, of a write or a flush.
    fn burn_changing(&mut self, file: File) -> Result<&mut SimDisk, DeviceError> {
        match &mut self.blows {
            Blows::InSuperblock(left) if file == File::Superblock => match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => self.blown = true,
            },
            _ => {}
        }
        self.burn()
    }

    fn go_on(&mut self) -> Result<&mut SimDisk, DeviceError> {
        if self.blown {
            return Err(DeviceError::Io { errno: 5, message: "the machine stopped".into() });
        }
        Ok(self.disk)
    }
}

impl Blocking for Fuse<'_> {
    fn list(&mut self) -> Result<Vec<(Slot, u64)>, DeviceError> {
        self.burn()?.list()
    }

    fn file_len(&mut self, file: File) -> Result<Option<u64>, DeviceError> {
        self.burn()?.file_len(file)
    }

    fn read_at(&mut self, file: File, offset: u64, buf: &mut [u8]) -> Result<usize, DeviceError> {
        self.burn()?.read_at(file, offset, buf)
    }

    fn write_at(&mut self, file: File, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        self.burn_changing(file)?.write_at(file, offset, data)
    }

    fn flush(&mut self, file: File) -> Result<(), DeviceError> {
        self.burn_changing(file)?.flush(file)
    }

    fn create(&mut self, file: File, bytes: u64, fill: Fill) -> Result<(), DeviceError> {
        self.burn()?.create(file, bytes, fill)
    }

    fn remove(&mut self, file: File) -> Result<(), DeviceError> {
        self.burn()?.remove(file)
    }

    fn free_bytes(&mut self) -> Result<u64, DeviceError> {
        self.burn()?.free_bytes()
    }
}
