//! `--config FILE.toml`: a file with the names of the flags. Its values are put on the command line
//! right after the subcommand, so that they are parsed and checked as any flag is; a flag that is
//! given on the command line drops the file's key.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command};
use toml::Value;

use crate::error::{Error, Result};
use crate::text;

/// A command line with the values of its configuration file.
#[derive(Debug)]
pub struct Merged {
    pub argv: Vec<OsString>,
    /// The file and those of its keys that are on the command line.
    file: Option<(PathBuf, Vec<String>)>,
}

/// Merges the file that `argv` names, if any. `argv[0]` is the program, `argv[1]` the subcommand.
pub fn merge(cli: &Command, argv: Vec<OsString>) -> Result<Merged> {
    let command = argv.get(1).and_then(|name| cli.find_subcommand(name));
    let path = config_path(&argv);
    let (Some(command), Some(path)) = (command, path) else { return Ok(Merged { argv, file: None }) };
    let mut words = Vec::new();
    let mut keys = Vec::new();
    for (key, value) in read(&path)? {
        let arg = find(command, &key).ok_or_else(|| unknown(&path, command, &key))?;
        if !is_given(&argv, &key) {
            words.extend(as_flags(&path, arg, &key, &value)?);
            keys.push(key);
        }
    }
    let argv = argv[..2].iter().cloned().chain(words).chain(argv[2..].iter().cloned()).collect();
    Ok(Merged { argv, file: Some((path, keys)) })
}

impl Merged {
    /// The error of a value that came from the file; `None` if clap complains of something else.
    pub fn blame(&self, error: &clap::Error) -> Option<Error> {
        let (path, keys) = self.file.as_ref()?;
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(s)) => Some(s.clone()),
            Some(ContextValue::Strings(s)) if !s.is_empty() => Some(format!("one of {}", s.join(", "))),
            _ => None,
        };
        let flag = text(ContextKind::InvalidArg)?;
        let long = flag.trim_start_matches("--").split([' ', '=', '[']).next()?;
        let key = keys.iter().find(|k| *k == long)?;
        let reason = std::error::Error::source(error).map(|e| e.to_string());
        let reason = reason.map(|r| r.strip_prefix("expected ").map_or(format!("a value for {flag} ({r})"), str::to_string));
        let expected = text(ContextKind::ValidValue).or(reason).unwrap_or_else(|| format!("a value for {flag}"));
        Some(Error::file(path, format!("{key} = {:?}", text(ContextKind::InvalidValue).unwrap_or_default()), expected))
    }
}

/// Whether a flag takes no value.
pub fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

fn find<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|a| a.get_long() == Some(key) && key != "config")
}

fn unknown(path: &Path, command: &Command, key: &str) -> Error {
    let dashed = key.replace('_', "-");
    let expected = match find(command, &dashed) {
        Some(_) => format!("`{dashed}`"),
        None => format!("names of flags of `mechgraph {}`, without the dashes", command.get_name()),
    };
    Error::file(path, format!("unknown key `{key}`"), expected)
}

/// The words of `argv` that can be flags: those before `--`.
fn flag_words(argv: &[OsString]) -> impl Iterator<Item = (usize, std::borrow::Cow<'_, str>)> {
    argv.iter().enumerate().skip(2).map(|(i, w)| (i, w.to_string_lossy())).take_while(|(_, w)| w != "--")
}

fn is_given(argv: &[OsString], key: &str) -> bool {
    flag_words(argv).any(|(_, word)| word.strip_prefix("--").is_some_and(|w| w.split('=').next() == Some(key)))
}

fn config_path(argv: &[OsString]) -> Option<PathBuf> {
    flag_words(argv).find_map(|(i, word)| match word.strip_prefix("--config")? {
        "" => argv.get(i + 1).map(PathBuf::from),
        rest => rest.strip_prefix('=').map(PathBuf::from),
    })
}

fn read(path: &Path) -> Result<toml::Table> {
    let text = text::read_utf8(path, "a TOML file with lines of the form `flag = value`")?;
    text.parse::<toml::Table>().map_err(|e| {
        let line = e.span().map_or(1, |s| text.bytes().take(s.start).filter(|b| *b == b'\n').count() + 1);
        Error::file(
            path,
            format!("no TOML in line {line} ({})", e.message().replace('\n', ", ")),
            "lines of the form `flag = value`",
        )
    })
}

/// A value as it would be typed; `None` for arrays, tables and dates.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.clone()),
        Value::Integer(i) => Some(i.to_string()),
        Value::Float(f) => Some(f.to_string()),
        Value::Boolean(b) => Some(b.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

/// A key as words of a command line. `--key=value` is one word, so that a value may begin with a dash.
fn as_flags(path: &Path, arg: &Arg, key: &str, value: &Value) -> Result<Vec<OsString>> {
    let wrong = |expected: &str| Error::file(path, format!("`{key}` with a value of type {}", value.type_str()), expected);
    if is_switch(arg) {
        let on = value.as_bool().ok_or_else(|| wrong("true or false"))?;
        return Ok(if on { vec![format!("--{key}").into()] } else { Vec::new() });
    }
    let items = match value {
        Value::Array(items) => items.iter().map(scalar).collect::<Option<Vec<_>>>(),
        single => scalar(single).map(|s| vec![s]),
    };
    let items = items.ok_or_else(|| wrong("a string, a number, or an array of them"))?;
    // A flag that is repeated rather than split at commas gets one word an item.
    let is_repeated = matches!(arg.get_action(), ArgAction::Append) && arg.get_value_delimiter().is_none();
    let values = if is_repeated { items } else { vec![items.join(",")] };
    Ok(values.into_iter().map(|v| format!("--{key}={v}").into()).collect())
}

#[cfg(test)]
mod tests {
    use crate::basis::rotation::Threshold;
    use crate::cli::lib::{Args, Basis};
    use crate::cli::tests::lib_args;
    use clap::CommandFactory;
    use std::path::PathBuf;

    fn with_file(toml: &str, flags: &str) -> (Result<Args, String>, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, toml).unwrap();
        (lib_args(&format!("--data D --config {} {flags}", path.display())), path)
    }

    #[test]
    fn keys_count_as_flags_and_the_command_line_wins() {
        let toml = "node-layers = ['ln1.0', 'unembed']\nbasis = '(1-alpha)^2'\nseed = 5\nno-center = true\nngf = false\n\
                    threshold = 1e-15\nintegration = 'trapezoidal'\nintervals = 4\nbatch = 3\nrotate-final = false\n\
                    quadrature = ['ln1=gauss-legendre:2', 'unembed=gradient']";
        let args = with_file(toml, "--seed 7 --batch=9").0.unwrap();
        assert_eq!(args.node_layers, ["ln1.0", "unembed"]);
        assert_eq!((args.basis, args.common.seed, args.common.batch.map(|b| b.get())), (Basis::OneMinusAlphaSquared, 7, Some(9)));
        assert_eq!(args.threshold(), Threshold::Absolute(1e-15));
        assert_eq!((args.no_center, args.ngf, args.quadrature.len()), (true, false, 2));
        assert!(!args.rotate_final("unembed").unwrap());
        assert_eq!(args.common.flags["seed"], "7");
    }

    #[test]
    fn a_positional_value_after_dashes_is_no_flag() {
        let argv = ["mechgraph", "lib", "--", "--config", "x"].map(Into::into);
        let merged = super::merge(&crate::cli::Cli::command(), argv.clone().into()).unwrap();
        assert_eq!(merged.argv, argv);
    }

    #[test]
    fn bad_files_are_named() {
        let cases = [
            ("colour = 1", "unknown key `colour`; expected names of flags of `mechgraph lib`, without the dashes"),
            ("node_layers = 'a'", "unknown key `node_layers`; expected `node-layers`"),
            ("config = 'x'", "unknown key `config`"),
            ("model = 'x'", "unknown key `model`"),
            ("seed = ", "no TOML in line 1"),
            ("seed = 1\nseed = 2", "no TOML in line 2"),
            ("ngf = 'yes'", "`ngf` with a value of type string; expected true or false"),
            ("[seed]\nx = 1", "`seed` with a value of type table; expected a string, a number, or an array of them"),
            ("basis = 'fourier'", "basis = \"fourier\"; expected one of jacobian, pca,"),
            ("max-memory = 'lots'", "max-memory = \"lots\"; expected a positive whole number of bytes"),
            ("batch = 0", "batch = \"0\"; expected a value for --batch <N>"),
            ("threads = 0", "threads = \"0\"; expected a whole number from 1 to 1024"),
            ("rotate-final = 'x'", "rotate-final = \"x\"; expected one of true, false"),
        ];
        for (toml, part) in cases {
            let (result, path) = with_file(toml, "");
            let error = result.unwrap_err();
            assert!(
                error.starts_with(&path.display().to_string()) && error.contains(part) && !error.contains('\n'),
                "{toml}: {error}"
            );
        }
        assert!(
            lib_args("--config /nonexistent.toml").unwrap_err().starts_with("/nonexistent.toml: no such file; expected a TOML")
        );
        assert!(with_file("seed = 1", "--basis fourier").0.unwrap_err().starts_with("usage: "));
        assert!(lib_args("--config").unwrap_err().starts_with("usage: "));
    }
}
