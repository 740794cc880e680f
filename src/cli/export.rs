//! `mechgraph export`: neurons of an N2G run in forms that other programs read.

use std::path::PathBuf;

use clap::ValueEnum;

use super::common::print;
use super::neuron::{Neuron, Opened};
use super::run_dir::check_free;
use super::show::with_texts;
use crate::error::{Error, Result};
use crate::files;
use crate::n2g::dot::dot;

/// Write neurons of an N2G run as DOT or JSON
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Folder of the run
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// dot: the graph of a neuron; json: records with texts
    #[arg(long, value_name = "NAME", hide_possible_values = true)]
    pub format: Format,
    /// A neuron, as in 3:17 [default: all, for json]
    #[arg(long, value_name = "LAYER:NEURON")]
    pub neuron: Option<Neuron>,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long, requires = "out")]
    pub force: bool,
}

/// `--format`
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Dot,
    Json,
}

/// Runs `mechgraph export`.
pub fn run(args: Args) -> Result<()> {
    if let Some(path) = &args.out {
        check_free(path, args.force)?;
    }
    let run = Opened::new(&args.run)?;
    match (args.format, args.neuron) {
        (Format::Dot, None) => {
            Err(Error::flag("--neuron", "nothing", "LAYER:NEURON beside --format dot, which is of one neuron"))
        }
        (Format::Dot, Some(neuron)) => put(&args, &graph(&run, neuron)?),
        (Format::Json, Some(neuron)) => {
            put(&args, &format!("{}\n", with_texts(&run.record(neuron)?, &run.texts()?, run.tries()?.as_ref())?))
        }
        (Format::Json, None) => all(&args, &run),
    }
}

fn put(args: &Args, text: &str) -> Result<()> {
    match &args.out {
        Some(path) => files::write(path, |w| w.write_all(text.as_bytes())),
        None => print(text),
    }
}

fn graph(run: &Opened, neuron: Neuron) -> Result<String> {
    let graph = run.record(neuron)?.graph.ok_or_else(|| {
        let expected = "a neuron that the run built a trie of";
        Error::flag("--neuron", format!("{neuron}, which has no graph"), expected)
    })?;
    Ok(dot(&graph, &neuron.to_string()))
}

/// A JSON array of all neurons, one a line, written as they are read.
fn all(args: &Args, run: &Opened) -> Result<()> {
    let (texts, tries, records) = (run.texts()?, run.tries()?, run.records()?);
    let lines = records.enumerate().map(|(i, record)| {
        let head = if i == 0 { "\n" } else { ",\n" };
        Ok(format!("{head}{}", with_texts(&record?, &texts, tries.as_ref())?))
    });
    let mut lines = std::iter::once(Ok("[".to_string())).chain(lines).chain([Ok("\n]\n".to_string())]);
    let Some(path) = &args.out else { return lines.try_for_each(|line| print(&line?)) };
    // What goes wrong in a record is told as it is, not as a failure of the file that is written.
    let mut failed = None;
    let written = files::write(path, |w| {
        lines.try_for_each(|line| match line {
            Ok(line) => w.write_all(line.as_bytes()),
            Err(e) => {
                let told = std::io::Error::other(e.to_string());
                failed = Some(e);
                Err(told)
            }
        })
    });
    failed.map_or(written, Err)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::neuron::tests::run_of;
    use crate::cli::tests::parsed;
    use crate::cli::{Command, run_dir::RunDir};
    use crate::n2g::record;

    fn export(path: &std::path::Path, flags: &str) -> std::result::Result<(), String> {
        match parsed(&format!("mechgraph export {} {flags}", path.display()))? {
            Command::Export(args) => run(args).map_err(|e| e.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn neurons_are_written_as_dot_and_json() {
        let tmp = tempfile::tempdir().unwrap();
        let (path, out) = (tmp.path().join("RUN"), tmp.path().join("out"));
        run_of(&path, &[(0, 1), (1, 0)]);
        let read = |flags: &str| {
            export(&path, &format!("{flags} --force --out {}", out.display())).unwrap();
            std::fs::read_to_string(&out).unwrap()
        };
        assert!(read("--format dot --neuron 1:0").starts_with("digraph \"1:0\" {\n"));
        let json = |text: String| -> Value { serde_json::from_str(&text).unwrap() };
        assert_eq!(json(read("--format json --neuron 1:0"))["exemplars"][0]["texts"], json!(["<unk>", "the", "cat"]));
        let all = json(read("--format json"));
        assert_eq!((all.as_array().unwrap().len(), &all[1]["layer"], &all[0]["neuron"]), (2, &json!(1), &json!(1)));
        run_of(&path, &[]);
        assert_eq!(json(read("--format json")), json!([]));
    }

    #[test]
    fn what_cannot_be_exported_is_named() {
        let tmp = tempfile::tempdir().unwrap();
        let (path, out) = (tmp.path().join("RUN"), tmp.path().join("out"));
        let dir: RunDir = run_of(&path, &[(0, 1)]);
        assert!(export(&path, "--format svg").unwrap_err().starts_with("usage: "));
        assert!(export(&path, "--format dot").unwrap_err().starts_with("--neuron: found nothing; expected LAYER:NEURON"));
        assert!(export(&path, "--format dot --neuron 1:0").unwrap_err().contains("neurons.jsonl: no neuron 1:0; expected"));
        let silent = record::Record { graph: None, ..crate::n2g::fixture::record(0, 1) };
        let line = serde_json::to_string(&silent).unwrap();
        dir.write(record::FILE, format!("{line}\n{{\n").as_bytes()).unwrap();
        let e = export(&path, "--format dot --neuron 0:1").unwrap_err();
        assert_eq!(e, "--neuron: found 0:1, which has no graph; expected a neuron that the run built a trie of");
        let to = format!("--format json --out {}", out.display());
        assert!(export(&path, &to).unwrap_err().contains("neurons.jsonl: line 2: no record ("));
        assert!(!out.exists());
        std::fs::write(&out, "mine").unwrap();
        assert!(export(&path, &to).unwrap_err().contains("a file that exists already"));
    }
}
