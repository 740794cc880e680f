//! Files that appear under their name only when they are complete.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What the name of a file ends with until it is complete.
pub const PARTIAL: &str = ".partial";

/// The name of a file until it is complete: `PATH.partial`.
pub fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(PARTIAL);
    PathBuf::from(name)
}

/// Writes a file as `PATH.partial` and renames it when it is complete and on the disk, so that a
/// reader finds the old file, none, or the new one, but never a piece.
pub fn write(path: &Path, content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let partial = partial(path);
    let written = File::create(&partial).and_then(|file| {
        let mut writer = BufWriter::new(file);
        content(&mut writer)?;
        writer.into_inner().map_err(|e| e.into_error())?.sync_all()
    });
    written.and_then(|()| fs::rename(&partial, path)).map_err(|e| {
        // What went wrong is told by `e`; a piece that cannot be removed either adds nothing.
        let _ = fs::remove_file(&partial);
        Error::io(path, "writing", e)
    })
}
