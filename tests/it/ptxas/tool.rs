//! Runs the assembler and the disassembler with a time limit.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a tool did.
#[derive(Debug)]
pub struct Output {
    pub success: bool,
    /// Standard output and standard error in one.
    pub text: String,
}

/// Runs `program` to its end, or kills it after `limit`. Its output goes through the file `log`, so
/// that no pipe can fill up.
pub fn run<S: AsRef<OsStr>>(program: &Path, args: &[S], log: &Path, limit: Duration) -> Result<Output, String> {
    let failed = |what: &str, e: std::io::Error| format!("{}: {what} failed: {e}", program.display());
    let file = File::create(log).map_err(|e| failed("making its log", e))?;
    let other = file.try_clone().map_err(|e| failed("making its log", e))?;
    let mut command = Command::new(program);
    let spawned = command.args(args).stdin(Stdio::null()).stdout(file).stderr(other).spawn();
    let mut child = spawned.map_err(|e| failed("starting", e))?;
    let start = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|e| failed("waiting", e))? {
            Some(status) => break status,
            None if start.elapsed() > limit => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{}: still running after {} s", program.display(), limit.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let text = std::fs::read(log).map_err(|e| failed("reading its log", e))?;
    Ok(Output { success: status.success(), text: String::from_utf8_lossy(&text).into_owned() })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Result<Output, String> {
        let dir = tempfile::tempdir().unwrap();
        run(Path::new("/bin/sh"), &["-c", script], &dir.path().join("log"), limit)
    }

    #[test]
    fn both_streams_and_the_status_come_back() {
        let output = shell("echo out; echo err >&2; exit 3", Duration::from_secs(60)).unwrap();
        assert_eq!((output.success, output.text.as_str()), (false, "out\nerr\n"));
        assert!(shell("exit 0", Duration::from_secs(60)).unwrap().success);
    }

    #[test]
    fn a_tool_without_end_is_killed() {
        let start = Instant::now();
        let error = shell("exec sleep 600", Duration::from_secs(1)).unwrap_err();
        assert!(error.contains("/bin/sh: still running after 1 s") && start.elapsed() < Duration::from_secs(60), "{error}");
        let missing = run(Path::new("/no/such/ptxas"), &["-v"], &std::env::temp_dir().join("mechgraph-no-log"), Duration::ZERO);
        assert!(missing.unwrap_err().contains("/no/such/ptxas: starting failed"));
    }
}
