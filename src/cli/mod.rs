//! The command line: one file a subcommand. Exit status: 0 done, 1 failed (one sentence on stderr
//! and perhaps a hint), 2 wrong usage.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};

use crate::error::{Error, Result};

pub mod ablate;
pub mod augment;
pub mod bench;
pub mod capture;
pub mod common;
pub mod config;
pub mod devices;
pub mod doctor;
pub mod eval;
pub mod export;
pub mod jvp;
pub mod kernels;
pub mod lib;
pub mod n2g;
pub mod neuron;
pub mod neuron_page;
pub mod page;
pub mod predict;
pub mod run_dir;
pub mod show;
pub mod table;

/// Turns neural networks into graphs that researchers can read, search and test
#[derive(clap::Parser, Debug)]
#[command(name = "mechgraph", version, subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Compute the Local Interaction Basis of a model and its interaction graph
    Lib(Box<lib::Args>),
    /// Ablate directions or edges of a LIB run and measure the model
    Ablate(Box<ablate::Args>),
    /// Turn every neuron of a language model into a graph of the token patterns that fire it
    N2g(Box<n2g::Args>),
    /// Write activations at named sites of a model
    Capture(capture::Args),
    /// Apply block Jacobians to given tangents and cotangents
    Jvp(jvp::Args),
    /// Measure loss, perplexity and accuracy of a model
    Eval(eval::Args),
    /// Show a neuron of an N2G run: facts, scores, graph and exemplars
    Show(show::Args),
    /// Write neurons of an N2G run as DOT or JSON
    Export(export::Args),
    /// Predict activations on new text by the tries of a run
    Predict(predict::Args),
    /// List the backends and say which one `auto` picks
    Devices(devices::Args),
    /// Check on this device all operations, and what a model must hold to
    Doctor(Box<doctor::Args>),
    /// Check operations against f64 and time them against the device's ceilings
    Bench(bench::Args),
    /// List the kernels, print one, or explain which one a device would be handed
    Kernels(kernels::Args),
}

/// Why a command line did not become a [`Command`].
#[derive(Debug)]
enum Refusal {
    /// Wrong usage, or a request for help: clap has the words for it.
    Usage(Box<clap::Error>),
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(e: Error) -> Self {
        Refusal::Failed(e)
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match parse(std::env::args_os().collect()) {
        Ok(command) => match command.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => fail(&e),
        },
        Err(Refusal::Failed(e)) => fail(&e),
        Err(Refusal::Usage(e)) => {
            // Help goes to stdout, where a reader such as `head` may have left already.
            let _ = e.print();
            ExitCode::from(e.exit_code() as u8)
        }
    }
}

fn fail(error: &Error) -> ExitCode {
    use std::io::Write;
    // Names out of files may hold line breaks and terminal escapes: the sentence stays one line of text.
    let mut text = format!("error: {}\n", error.to_string().replace(char::is_control, " "));
    if let Some(hint) = hint(error) {
        text += &format!("hint: {hint}\n");
    }
    // If stderr is closed there is nobody left to tell; the exit status still says it.
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::FAILURE
}

/// What may help, where the sentence of the error does not say it already.
fn hint(error: &Error) -> Option<&'static str> {
    match error {
        Error::Flag { .. } => Some("`mechgraph COMMAND --help` lists the flags of a command"),
        Error::Backend { .. } => Some("`mechgraph devices` lists the backends of this build"),
        Error::Io { source, .. } if source.kind() == ErrorKind::StorageFull => Some("free some space, or write to another disk"),
        Error::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            Some("choose a place that you may read and write")
        }
        _ => None,
    }
}

/// Parses a command line, the values of its `--config` file merged in.
fn parse(argv: Vec<OsString>) -> std::result::Result<Command, Refusal> {
    let mut cli = Cli::command();
    let merged = config::merge(&cli, argv)?;
    let parsed = cli.try_get_matches_from_mut(&merged.argv).and_then(|m| Ok((Cli::from_arg_matches(&m)?, m)));
    let (Cli { mut command }, matches) = parsed.map_err(|e| match merged.blame(&e) {
        Some(error) => Refusal::Failed(error),
        None => Refusal::Usage(Box::new(e)),
    })?;
    if let (Some((name, matches)), Some(common)) = (matches.subcommand(), command.common_mut()) {
        common.flags = cli.find_subcommand(name).map_or_else(BTreeMap::new, |c| flags(c, matches));
    }
    Ok(command)
}

/// Every flag that was set or has a default, by its long name, with its value as typed.
fn flags(command: &clap::Command, matches: &ArgMatches) -> BTreeMap<String, String> {
    let mut flags = BTreeMap::new();
    for arg in command.get_arguments() {
        let (Some(long), id) = (arg.get_long(), arg.get_id().as_str()) else { continue };
        // `--help` and `--version` end the parse: they have no value here, and asking panics.
        if !matches!(matches.try_contains_id(id), Ok(true)) {
            continue;
        }
        let is_unset_switch = config::is_switch(arg) && matches.value_source(id) != Some(ValueSource::CommandLine);
        if let (false, Some(raw)) = (is_unset_switch, matches.get_raw(id)) {
            let values: Vec<_> = raw.map(|v| v.to_string_lossy()).collect();
            flags.insert(long.to_string(), values.join(","));
        }
    }
    flags
}

impl Command {
    fn common_mut(&mut self) -> Option<&mut common::Common> {
        match self {
            Command::Lib(a) => Some(&mut a.common),
            Command::Ablate(a) => Some(&mut a.common),
            Command::N2g(a) => Some(&mut a.common),
            Command::Capture(a) => Some(&mut a.common),
            Command::Jvp(a) => Some(&mut a.common),
            Command::Eval(a) => Some(&mut a.common),
            Command::Predict(a) => Some(&mut a.common),
            Command::Doctor(a) => Some(&mut a.common),
            Command::Bench(a) => Some(&mut a.common),
            Command::Show(_) | Command::Export(_) | Command::Devices(_) | Command::Kernels(_) => None,
        }
    }
    fn run(self) -> Result<()> {
        match self {
            Command::Lib(a) => lib::run(*a),
            Command::Ablate(a) => ablate::run(*a),
            Command::N2g(a) => n2g::run(*a),
            Command::Capture(a) => capture::run(a),
            Command::Jvp(a) => jvp::run(a),
            Command::Eval(a) => eval::run(a),
            Command::Show(a) => show::run(a),
            Command::Export(a) => export::run(a),
            Command::Predict(a) => predict::run(a),
            Command::Devices(a) => devices::run(a),
            Command::Doctor(a) => doctor::run(*a),
            Command::Bench(a) => bench::run(a),
            Command::Kernels(a) => kernels::run(a),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses the words of a line; a refusal by clap comes back as its first line.
    pub(super) fn parsed(line: &str) -> std::result::Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from).collect()).map_err(|r| match r {
            Refusal::Usage(e) => format!("usage: {}", e.to_string().lines().next().unwrap_or_default()),
            Refusal::Failed(e) => e.to_string(),
        })
    }

    /// The checked arguments of `mechgraph lib`, or the sentence that refuses them.
    pub(super) fn lib_args(flags: &str) -> std::result::Result<lib::Args, String> {
        match parsed(&format!("mechgraph lib M --out R {flags}"))? {
            Command::Lib(a) => a.check().map(|()| *a).map_err(|e| e.to_string()),
            other => panic!("{other:?}"),
        }
    }

    /// The checked arguments of `mechgraph ablate`, or the sentence that refuses them.
    pub(super) fn ablate_args(flags: &str) -> std::result::Result<ablate::Args, String> {
        match parsed(&format!("mechgraph ablate R {flags}"))? {
            Command::Ablate(a) => a.check().map(|()| *a).map_err(|e| e.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_has_one_line_a_flag_and_fits_a_screen() {
        let mut cli = Cli::command().term_width(100);
        cli.build();
        for command in cli.get_subcommands_mut() {
            let help = command.render_help().to_string();
            assert!(help.lines().count() <= 60, "{help}");
            let flags = command.get_arguments().filter(|a| a.get_long().is_some()).count();
            let lines: Vec<&str> = help.lines().filter(|l| l.contains("  --") || l.contains(", --")).collect();
            assert_eq!(lines.len(), flags, "{help}");
            assert!(lines.iter().all(|l| l.trim().contains("  ")), "a flag without a description in\n{help}");
            let wrapped = help.lines().find(|l| l.starts_with("            "));
            assert_eq!(wrapped, None, "{help}");
            // Any long help would turn `--help` into several lines a flag.
            assert!(command.get_arguments().all(|a| a.get_long_help().is_none()), "{help}");
        }
    }

    #[test]
    fn wrong_usage_is_left_to_clap() {
        for line in [
            "mechgraph",
            "mechgraph nonsense",
            "mechgraph lib",
            "mechgraph lib M",
            "mechgraph eval M --bach 3",
            "mechgraph --help",
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.starts_with("usage: "), "{line}: {error}");
        }
    }

    #[test]
    fn flags_are_recorded_as_typed_and_switches_only_when_set() {
        let args = lib_args("--data D --node-layers ln1.0,unembed --no-center --threshold 1e-15").unwrap();
        let flags = &args.common.flags;
        assert_eq!(flags["node-layers"], "ln1.0,unembed");
        assert_eq!(
            (flags["threshold"].as_str(), flags["no-center"].as_str(), flags["basis"].as_str()),
            ("1e-15", "true", "jacobian")
        );
        assert!(!flags.contains_key("ngf") && !flags.contains_key("batch") && !flags.contains_key("model"));
    }
}
