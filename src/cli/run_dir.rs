//! The folder of a run. It is never lost by accident: a finished run is only replaced with
//! `--force`, files that are not ours are never removed, and a file appears under its name only
//! when it is complete.

use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::data::checkpoint::Checkpoints;
use crate::error::{Error, Result};
use crate::files::{self, PARTIAL};
use crate::manifest::{Manifest, Status};

const MANIFEST: &str = "run.json";
const DATA: &str = "data";
const CHECKPOINT: &str = "checkpoint";
/// The files of runs beside their manifest and ablations.
const FILES: [&str; 11] = [
    "graph.safetensors",
    "index.html",
    "clusters.json",
    "exemplars.safetensors",
    "tries.safetensors",
    "neurons.jsonl",
    "scores.csv",
    "summary.json",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
];
/// How much work a kill may cost.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);

/// A folder that results are written to.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes `path` the folder of the run that `manifest` describes, and writes the manifest as
    /// `running`. The folder may be new, empty, or left by an interrupted run of the same command,
    /// model, data and options; with `force`, by any run. A folder with files but without
    /// `run.json` is refused in either case.
    pub fn create(path: &Path, force: bool, manifest: &Manifest) -> Result<Self> {
        if path.exists() && !path.is_dir() {
            return Err(Error::file(path, "a file", "a folder for the run, or a path that does not exist yet"));
        }
        fs::create_dir_all(path).map_err(|e| Error::io(path, "creating the folder", e))?;
        let dir = Self { path: path.into() };
        let own = dir.own_entries()?;
        let mut resumes = false;
        if dir.file(MANIFEST).exists() {
            // With --force even a manifest that cannot be read may be replaced.
            if !force {
                dir.check_takeover(manifest)?;
                resumes = true;
            }
        } else if let Some(foreign) = dir.entries()?.into_iter().find(|e| !is_partial(e, MANIFEST)) {
            let found = format!("a folder with files but no {MANIFEST} ({} is one)", foreign.to_string_lossy());
            return Err(Error::file(path, found, "an empty folder, or the folder of a run"));
        }
        let running = Manifest { status: Status::Running, ..manifest.clone() };
        // Before anything is removed: interrupted here, the folder still counts as a run's.
        dir.write(MANIFEST, running.to_json()?.as_bytes())?;
        for name in own.iter().filter(|n| *n != MANIFEST && !(resumes && *n == CHECKPOINT)) {
            dir.remove(name)?;
        }
        Ok(dir)
    }
    /// Opens the folder of a finished run, with its manifest.
    pub fn open_finished(path: &Path) -> Result<(Self, Manifest)> {
        let expected = "the folder of a finished run";
        if !path.is_dir() {
            return Err(Error::file(path, if path.exists() { "a file" } else { "nothing" }, expected));
        }
        let dir = Self { path: path.into() };
        if !dir.file(MANIFEST).exists() {
            return Err(Error::file(path, format!("no {MANIFEST}"), expected));
        }
        let manifest = Manifest::read(&dir.file(MANIFEST))?;
        match manifest.status {
            Status::Done => Ok((dir, manifest)),
            Status::Running => Err(Error::file(path, "an unfinished run", expected)),
        }
    }
    /// The path of a file of the run.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
    /// Writes a file of the run; see [`files::write`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_with(name, |w| w.write_all(bytes))
    }
    /// Writes a file of the run piece by piece; see [`files::write`]. `data/NAME` creates the folder.
    pub fn write_with(&self, name: &str, content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
        let path = self.file(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|e| Error::io(parent, "creating the folder", e))?;
        }
        files::write(&path, content)
    }
    /// Where the passes of this run keep their state, for the run that takes over after a kill.
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints { folder: self.file(CHECKPOINT), every: CHECKPOINT_INTERVAL }
    }
    /// Ends the run: writes its manifest, the last of its files, as `done`.
    pub fn finish(&self, mut manifest: Manifest, times: Vec<(String, f64)>) -> Result<()> {
        manifest.finish(times);
        self.write(MANIFEST, manifest.to_json()?.as_bytes())?;
        self.remove(&CHECKPOINT.into())
    }
    /// Clears the folder after a failure, so that other work may take it; a checkpoint is left where
    /// it is, with the manifest, for the same work to go on from.
    pub fn abandon(&self) {
        let resumes = self.file(CHECKPOINT).exists();
        for name in self.own_entries().unwrap_or_default() {
            if !(resumes && (name == CHECKPOINT || name == MANIFEST)) {
                // The user hears of the failure itself. What cannot be removed, the next run replaces.
                let _ = self.remove(&name);
            }
        }
    }
    fn check_takeover(&self, manifest: &Manifest) -> Result<()> {
        let left = Manifest::read(&self.file(MANIFEST))?;
        if left.status == Status::Done {
            return Err(Error::file(&self.path, "a finished run", "a new folder, or --force to replace the run"));
        }
        left.matches(&manifest.fingerprint).map_err(|differences| {
            let found = format!("an unfinished run of other work: there {}", differences.join(", "));
            Error::file(&self.path, found, "a run of the same work, a new folder, or --force to replace the run")
        })
    }
    fn entries(&self) -> Result<Vec<OsString>> {
        let read =
            fs::read_dir(&self.path).and_then(|d| d.map(|e| e.map(|e| e.file_name())).collect::<std::io::Result<Vec<_>>>());
        read.map_err(|e| Error::io(&self.path, "listing the folder", e))
    }
    fn own_entries(&self) -> Result<Vec<OsString>> {
        Ok(self.entries()?.into_iter().filter(|n| is_own(&n.to_string_lossy())).collect())
    }
    fn remove(&self, name: &OsString) -> Result<()> {
        let path = self.path.join(name);
        let gone = if name == DATA || name == CHECKPOINT { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        gone.or_else(|e| if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(Error::io(&path, "removing", e)) })
    }
}

/// Whether a run writes a file or folder of this name at the top of its folder.
fn is_own(name: &str) -> bool {
    let whole = name.strip_suffix(PARTIAL).unwrap_or(name);
    let is_ablation = whole.starts_with("ablation-") && whole.ends_with(".json");
    name == DATA || name == CHECKPOINT || is_ablation || whole == MANIFEST || FILES.contains(&whole)
}

fn is_partial(entry: &OsString, name: &str) -> bool {
    entry.to_str().and_then(|e| e.strip_suffix(PARTIAL)) == Some(name)
}

/// Refuses an output file that exists, unless it is to be replaced.
pub fn check_free(path: &Path, force: bool) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(m) if m.is_dir() => Err(Error::file(path, "a folder", "a file name to write to")),
        Ok(_) if !force => Err(Error::file(path, "a file that exists already", "a new name, or --force to replace the file")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::example;

    fn refusal(path: &Path, force: bool, manifest: &Manifest) -> String {
        let error = RunDir::create(path, force, manifest).unwrap_err().to_string();
        assert!(!error.contains('\n') && error.starts_with(&path.display().to_string()), "{error}");
        error
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_finished_run_is_replaced_only_with_force() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("a/run");
        let run = RunDir::create(&path, false, &example()).unwrap();
        run.write("graph.safetensors", b"graph").unwrap();
        run.write("data/0.js", b"x").unwrap();
        run.write("ablation-node.json", b"{}").unwrap();
        for name in FILES.iter().filter(|n| **n != "graph.safetensors") {
            run.write(name, b"x").unwrap();
        }
        assert!(RunDir::open_finished(&path).unwrap_err().to_string().contains("an unfinished run"));
        run.finish(example(), vec![("grams".into(), 1.0)]).unwrap();
        fs::write(path.join("notes.txt"), "mine").unwrap();
        let (opened, manifest) = RunDir::open_finished(&path).unwrap();
        assert_eq!(fs::read(opened.file("graph.safetensors")).unwrap(), b"graph");
        assert_eq!(manifest.times_seconds["grams"], 1.0);

        assert!(refusal(&path, false, &example()).contains("a finished run; expected a new folder, or --force"));
        assert_eq!(fs::read(path.join("graph.safetensors")).unwrap(), b"graph");
        RunDir::create(&path, true, &example()).unwrap();
        assert_eq!(names(&path), ["notes.txt", "run.json"]);
        assert_eq!(Manifest::read(&path.join("run.json")).unwrap().status, Status::Running);
    }

    #[test]
    fn an_unfinished_run_is_taken_over_by_the_same_work_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("run");
        let run = RunDir::create(&path, false, &example()).unwrap();
        run.write("graph.safetensors", b"old").unwrap();
        fs::write(path.join("graph.safetensors.partial"), "piece").unwrap();
        let mut other = example();
        other.fingerprint.seed = 3;
        other.fingerprint.config.insert("basis".into(), "pca".into());
        let error = refusal(&path, false, &other);
        assert!(error.contains("there seed is 0, not 3, --basis is jacobian, not pca;"), "{error}");
        assert_eq!(names(&path), ["graph.safetensors", "graph.safetensors.partial", "run.json"]);
        let mut same = example();
        same.fingerprint.config.insert("threads".into(), "1".into());
        RunDir::create(&path, false, &same).unwrap();
        assert_eq!(names(&path), ["run.json"]);
        RunDir::create(&path, true, &other).unwrap();
        assert_eq!(Manifest::read(&path.join("run.json")).unwrap().fingerprint.seed, 3);
    }

    #[test]
    fn foreign_folders_and_files_are_left_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("photos");
        fs::create_dir(&path).unwrap();
        RunDir::create(&path, false, &example()).unwrap();
        fs::remove_file(path.join("run.json")).unwrap();
        fs::write(path.join("index.html"), "mine").unwrap();
        for force in [false, true] {
            assert!(refusal(&path, force, &example()).contains("no run.json (index.html is one)"));
        }
        assert_eq!(names(&path), ["index.html"]);
        let file = path.join("index.html");
        assert!(refusal(&file, true, &example()).contains("a file; expected a folder"));
        assert!(refusal(&file.join("run"), true, &example()).contains("creating the folder failed"));
        assert_eq!(fs::read(&file).unwrap(), b"mine");
        fs::write(path.join("run.json"), "{").unwrap();
        let error = RunDir::create(&path, false, &example()).unwrap_err().to_string();
        assert!(error.contains("malformed manifest"), "{error}");
    }

    #[test]
    fn a_failed_run_leaves_what_can_be_resumed_or_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        let run = RunDir::create(tmp.path(), false, &example()).unwrap();
        run.write("graph.safetensors", b"graph").unwrap();
        run.write("checkpoint/edges.safetensors", b"sums").unwrap();
        fs::write(tmp.path().join("notes.txt"), "mine").unwrap();
        run.abandon();
        assert_eq!(names(tmp.path()), ["checkpoint", "notes.txt", "run.json"]);
        fs::remove_dir_all(tmp.path().join("checkpoint")).unwrap();
        run.abandon();
        assert_eq!(names(tmp.path()), ["notes.txt"]);
    }

    #[test]
    fn open_finished_wants_a_run() {
        let tmp = tempfile::tempdir().unwrap();
        let message = |p: &Path| RunDir::open_finished(p).unwrap_err().to_string();
        assert!(message(&tmp.path().join("none")).contains("nothing; expected the folder of a finished run"));
        assert!(message(tmp.path()).contains("no run.json"));
        fs::write(tmp.path().join("f"), "").unwrap();
        assert!(message(&tmp.path().join("f")).contains("a file; expected"));
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_piece() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("f");
        files::write(&path, |w| w.write_all(b"old")).unwrap();
        let full = files::write(&path, |w| {
            w.write_all(b"ne")?;
            Err(ErrorKind::StorageFull.into())
        });
        let error = full.unwrap_err().to_string();
        assert!(error.contains("writing failed: no storage space"), "{error}");
        assert_eq!((fs::read(&path).unwrap(), names(tmp.path())), (b"old".to_vec(), vec!["f".to_string()]));
        assert!(check_free(&path, false).unwrap_err().to_string().contains("--force"));
        assert!(check_free(&path, true).is_ok() && check_free(&tmp.path().join("g"), false).is_ok());
        assert!(check_free(tmp.path(), true).unwrap_err().to_string().contains("a folder"));
        let below = path.join("g");
        assert!(files::write(&below, |_| Ok(())).unwrap_err().to_string().contains("writing failed"));
    }
}
