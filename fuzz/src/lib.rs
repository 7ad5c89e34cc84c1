//! What the fuzz targets share: edits of valid bytes, checksums mended after them, log images, and
//! a `Net` that is driven like a reactor drives it.

pub mod edits;
pub mod image;
pub mod mend;
pub mod net;
