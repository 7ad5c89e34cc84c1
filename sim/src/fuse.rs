//! A disk that stops working after so many operations: a crash in the middle of recovery.

use corelane_storage::device::sim::SimDisk;
use corelane_storage::device::{Blocking, DeviceError, File, Fill, Slot};

/// A disk and the operations that it still does; `None` for all.
pub struct Fuse<'a> {
    disk: &'a mut SimDisk,
    left: Option<u64>,
    blown: bool,
}

impl<'a> Fuse<'a> {
    /// A disk that stops after `left` operations.
    pub fn new(disk: &'a mut SimDisk, left: Option<u64>) -> Self {
        Fuse { disk, left, blown: false }
    }

    /// Whether it stopped.
    pub fn is_blown(&self) -> bool {
        self.blown
    }

    fn burn(&mut self) -> Result<&mut SimDisk, DeviceError> {
        match &mut self.left {
            Some(0) => {
                self.blown = true;
                Err(DeviceError::Io { errno: 5, message: "the machine stopped".into() })
            }
            Some(left) => {
                *left -= 1;
                Ok(self.disk)
            }
            None => Ok(self.disk),
        }
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
        self.burn()?.write_at(file, offset, data)
    }

    fn flush(&mut self, file: File) -> Result<(), DeviceError> {
        self.burn()?.flush(file)
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
