//! Where the texts of the PTX kernels come from: this build, or the folder that `MECHGRAPH_KERNELS` names, so
//! that a kernel can be changed and tried without building anything.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The environment variable that names a folder with the files of `kernels/`.
const FOLDER: &str = "MECHGRAPH_KERNELS";

/// What was read of the folder.
type Read = Mutex<HashMap<String, &'static str>>;

/// The text of `file`, a path below `kernels/`: that of the folder, if one is named and has the file, else the
/// one that was built in. It is read once.
pub(super) fn text(file: &str, built_in: &'static str) -> &'static str {
    static READ: OnceLock<Option<(PathBuf, Read)>> = OnceLock::new();
    let folder = READ.get_or_init(|| Some((PathBuf::from(std::env::var_os(FOLDER)?), Mutex::default())));
    let Some((folder, read)) = folder else { return built_in };
    let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
    let found = || std::fs::read_to_string(folder.join(file)).map_or(built_in, |text| text.leak());
    read.entry(file.into()).or_insert_with(found)
}
