//! Flags that every computing command takes, and parsers of values that several commands share.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueEnum;

use crate::data::stream::Runner;
use crate::data::{self, Cut, DataSet};
use crate::demo;
use crate::device::{Choice, DType, Device, DriverChoice, Request, Selection};
use crate::error::{Error, Result};
use crate::model::{Loaded, Numbers};
use crate::progress::{Mode, Progress};

/// The most CPU threads: beyond the cores there is nothing to gain, and far beyond them a system
/// spends its time on the threads themselves.
const MAX_THREADS: usize = 1024;

/// The common flags.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// auto, cuda, wgpu or cpu
    #[arg(long, value_name = "NAME", default_value = "auto", hide_possible_values = true)]
    pub backend: Backend,
    /// nvidia, or interpreter: what plays the CUDA device
    #[arg(long, value_name = "NAME", default_value = "nvidia", hide_possible_values = true)]
    pub driver: CudaDriver,
    /// NVIDIA GPUs by number, as 0,1, or all
    #[arg(long, value_name = "LIST", default_value = "0", value_parser = parse_gpus)]
    pub gpus: Selection,
    /// wgpu adapter: a part of its name in any case
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// wgpu: f16 matrix units for linear maps (experimental)
    #[arg(long)]
    pub cooperative: bool,
    /// f64, f32 or bf16 [default: f32; lib: f64; ablate: its RUN's]
    #[arg(long, value_name = "TYPE", hide_possible_values = true)]
    pub dtype: Option<Precision>,
    /// Samples in a batch [default: chosen by the plan]
    #[arg(long, value_name = "N")]
    pub batch: Option<NonZeroUsize>,
    /// CPU threads [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    pub threads: Option<NonZeroUsize>,
    /// Most memory to use: bytes, or with suffix K, M or G
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub max_memory: Option<u64>,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Compute part I of N of the data, counted from 0
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Replace results that exist
    #[arg(long)]
    pub force: bool,
    /// Show no progress, whatever --progress says
    #[arg(long)]
    pub quiet: bool,
    /// plain or json: progress as lines on stderr [default: a bar]
    #[arg(long, value_name = "FORM", hide_possible_values = true)]
    pub progress: Option<Lines>,
    /// Read flags from a TOML file; the command line wins
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// The command line's flags with their values as typed, defaults included, by long name.
    #[arg(skip)]
    pub flags: BTreeMap<String, String>,
}

/// Flags that say how DATA is read.
#[derive(clap::Args, Clone, Debug)]
pub struct DataFlags {
    /// FILE or FILE#NAME: safetensors, .txt or .jsonl
    #[arg(long, value_name = "DATA")]
    pub data: Option<String>,
    /// Tokens in a window of text [default: min(128, context)]
    #[arg(long, value_name = "N")]
    pub window: Option<NonZeroUsize>,
    /// Begin every window of text with the BOS token
    #[arg(long)]
    pub bos: bool,
    /// Take the first N samples only
    #[arg(long, value_name = "N")]
    pub samples: Option<NonZeroUsize>,
}

impl DataFlags {
    /// Refuses a model that is not a `demo:` one without `--data`.
    pub fn check(&self, model: &str) -> Result<()> {
        if model.starts_with("demo:") { Ok(()) } else { self.required().map(drop) }
    }
    /// The value of `--data`; models that are not `demo:` ones need it.
    pub fn required(&self) -> Result<&str> {
        self.data.as_deref().ok_or_else(|| Error::flag("--data", "nothing", "FILE or FILE#NAME"))
    }
    /// How text is cut.
    pub fn cut(&self) -> Cut {
        Cut { window: self.window.map(NonZeroUsize::get), bos: self.bos }
    }
    /// Refuses flags of text where `spec` is none.
    fn check_text(&self, spec: &str) -> Result<()> {
        let flag = match (self.window, self.bos) {
            (Some(_), _) => "--window",
            (None, true) => "--bos",
            (None, false) => return Ok(()),
        };
        match data::text_of(spec)? {
            Some(_) => Ok(()),
            None => Err(Error::flag(flag, format!("{spec}, which is no text"), "a .txt or .jsonl file as the data")),
        }
    }
    /// Loads `spec` for a model, and of it what `--samples` asks for.
    pub fn load(&self, spec: &str, loaded: &Loaded) -> Result<DataSet> {
        self.check_text(spec)?;
        let set = data::load_or_cut(spec, loaded, self.cut())?;
        match self.samples {
            None => Ok(set),
            Some(n) if n.get() <= set.samples.count() => Ok(set.first(n.get())),
            Some(n) => Err(Error::flag(
                "--samples",
                n.to_string(),
                format!("at most {}, as many as {} has", set.samples.count(), set.name),
            )),
        }
    }
    /// The value of `--data`, or what the command takes of a `demo:` model without it: its text, or else
    /// this split.
    pub fn or_split(&self, model: &str, split: &str) -> String {
        let own = || if demo::text_of(model).is_some() { model.into() } else { format!("{model}#{split}") };
        self.data.clone().unwrap_or_else(own)
    }
}

/// `--backend`
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Auto,
    Cuda,
    Wgpu,
    Cpu,
}

/// `--driver`
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum CudaDriver {
    Nvidia,
    Interpreter,
}

/// `--dtype`
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    F64,
    F32,
    Bf16,
}

/// `--progress`
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    Plain,
    Json,
}

impl Common {
    /// Opens the device of `--backend`, `--driver`, `--adapter` and `--threads`, and says what `auto`
    /// passed over and why. `default` is the type that the command computes in without `--dtype`.
    pub fn device(&self, default: DType, progress: &Progress) -> Result<Device> {
        let (device, passed_over) = Device::open(&self.request(default))?;
        if !passed_over.is_empty() {
            progress.note(format!("auto picks {}: {}", device.backend(), passed_over.join("; ")));
        }
        Ok(device)
    }
    fn request(&self, default: DType) -> Request {
        let choice = match self.backend {
            Backend::Auto => Choice::Auto,
            Backend::Cuda => Choice::Cuda,
            Backend::Wgpu => Choice::Wgpu,
            Backend::Cpu => Choice::Cpu,
        };
        let driver = match self.driver {
            CudaDriver::Nvidia => DriverChoice::Nvidia,
            CudaDriver::Interpreter => DriverChoice::Interpreter,
        };
        let double = self.dtype.map_or(default == DType::F64, |p| p == Precision::F64);
        let threads = self.threads.map_or(0, NonZeroUsize::get);
        let (gpus, adapter, cooperative) = (self.gpus.clone(), self.adapter.clone(), self.cooperative);
        Request { choice, driver, gpus, adapter, cooperative, threads, double }
    }
    /// The type to compute in on `device`: `--dtype`, or the command's `default`.
    pub fn dtype(&self, device: &Device, default: DType) -> Result<DType> {
        let dtype = match self.dtype {
            None => default,
            Some(Precision::F64) => DType::F64,
            Some(Precision::F32) => DType::F32,
            Some(Precision::Bf16) => {
                let expected = format!("f64 or f32: the {} backend computes in f64 or f32", device.backend());
                return Err(Error::flag("--dtype", "bf16", expected));
            }
        };
        device.check_dtype(dtype)?;
        Ok(dtype)
    }
    /// As [`Common::dtype`], for commands that run models as they are: bf16 asks for weights of that dtype
    /// and arithmetic in f32.
    pub fn numbers(&self, device: &Device, default: DType) -> Result<Numbers> {
        match self.dtype {
            Some(Precision::Bf16) => Ok(Numbers { dtype: DType::F32, bf16_weights: true }),
            _ => self.dtype(device, default).map(Numbers::from),
        }
    }
    /// Bytes a plan may take: what is free on `device`, and no more than `--max-memory`.
    pub fn memory_limit(&self, device: &Device) -> Result<u64> {
        Ok(device.free_memory()?.min(self.max_memory.unwrap_or(u64::MAX)))
    }
    /// How passes run on `device`, without checkpoints.
    pub fn runner<'a>(&self, device: &'a Device, progress: &'a Progress) -> Result<Runner<'a>> {
        let (batch, memory) = (self.batch.map(NonZeroUsize::get), self.memory_limit(device)?);
        Ok(Runner { device, progress, batch, memory, checkpoints: None })
    }
    /// Progress as `--quiet` and `--progress` ask for.
    pub fn progress(&self) -> Progress {
        Progress::new(match (self.quiet, self.progress) {
            (true, _) => Mode::Quiet,
            (false, None) => Mode::Bar,
            (false, Some(Lines::Plain)) => Mode::Plain,
            (false, Some(Lines::Json)) => Mode::Json,
        })
    }
    /// Refuses combinations that can be told before anything is opened.
    pub fn check(&self) -> Result<()> {
        if self.driver != CudaDriver::Nvidia && self.backend != Backend::Cuda {
            return Err(Error::flag("--driver", typed(self.driver), "--backend cuda beside it"));
        }
        if self.gpus != Selection::default() && self.backend != Backend::Cuda {
            return Err(Error::flag("--gpus", "a choice of GPUs", "--backend cuda beside it"));
        }
        if let (Some(adapter), true) = (&self.adapter, self.backend != Backend::Wgpu) {
            return Err(Error::flag("--adapter", adapter, "--backend wgpu beside it"));
        }
        if self.cooperative && self.backend != Backend::Wgpu {
            return Err(Error::flag("--cooperative", "another backend", "--backend wgpu beside it"));
        }
        match &self.shard {
            Some(s) if s.count > 1 => {
                Err(Error::flag("--shard", format!("{}/{}", s.index, s.count), "no more than one part in this build"))
            }
            _ => Ok(()),
        }
    }
}

/// `--shard I/N`: part `index` of `count`, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    pub index: usize,
    pub count: usize,
}

impl FromStr for Shard {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parts = text.split_once('/').and_then(|(i, n)| Some(Self { index: i.parse().ok()?, count: n.parse().ok()? }));
        parts.filter(|s| s.index < s.count).ok_or_else(|| "expected I/N with I from 0 to N - 1, as in 0/4".into())
    }
}

/// Bytes, as a whole number with an optional suffix K, M or G (powers of 1024).
pub fn parse_bytes(text: &str) -> std::result::Result<u64, String> {
    let units = [('K', 1 << 10), ('M', 1 << 20), ('G', 1 << 30)];
    let unit = units.iter().find(|(suffix, _)| text.ends_with(suffix.to_ascii_lowercase()) || text.ends_with(*suffix));
    let (digits, factor) = unit.map_or((text, 1), |(_, factor)| (&text[..text.len() - 1], *factor));
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor));
    bytes
        .filter(|n| *n > 0)
        .ok_or_else(|| "expected a positive whole number of bytes, or one with suffix K, M or G, as in 12G".into())
}

/// A number of CPU threads.
fn parse_threads(text: &str) -> std::result::Result<NonZeroUsize, String> {
    parse_count(text, MAX_THREADS)
}

/// Numbers of GPUs.
fn parse_gpus(text: &str) -> std::result::Result<Selection, String> {
    if text == "all" {
        return Ok(Selection::All);
    }
    let numbers: Option<Vec<usize>> = text.split(',').map(|n| n.parse().ok().filter(|n| *n < MAX_THREADS)).collect();
    let numbers = numbers.filter(|n| n.iter().enumerate().all(|(i, number)| !n[..i].contains(number)));
    numbers.map(Selection::Numbers).ok_or_else(|| "expected different numbers, as in 0,1, or all".into())
}

/// A whole number from 1 to `max`.
pub fn parse_count(text: &str, max: usize) -> std::result::Result<NonZeroUsize, String> {
    let count = text.parse::<NonZeroUsize>().ok().filter(|n| n.get() <= max);
    count.ok_or_else(|| format!("expected a whole number from 1 to {max}"))
}

/// A finite number that is not negative.
pub fn parse_non_negative(text: &str) -> std::result::Result<f64, String> {
    let number = text.parse::<f64>().ok();
    number.filter(|x| x.is_finite() && *x >= 0.0).ok_or_else(|| "expected a number from 0 up, as in 1e-10".into())
}

/// Layers by their number: `0..6` (half-open), `0,3,5`, or both mixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers(Vec<Range<usize>>);

impl FromStr for Layers {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let part = |p: &str| match p.split_once("..") {
            Some((from, to)) => Some(from.parse().ok()?..to.parse().ok()?),
            None => p.parse::<usize>().ok().and_then(|i| Some(i..i.checked_add(1)?)),
        };
        let ranges: Option<Vec<_>> = text.split(',').map(|p| part(p).filter(|r| !r.is_empty())).collect();
        ranges.map(Self).ok_or_else(|| "expected numbers, as in 0..6 (without 6) or 0,3,5".into())
    }
}

impl Layers {
    /// The layers in rising order, each once. `count` layers exist; `flag` is named if one is beyond.
    pub fn resolve(&self, flag: &str, count: usize) -> Result<Vec<usize>> {
        self.below(flag, count, "layer", "the model")
    }
    /// As [`Layers::resolve`], for the neurons of a site.
    pub fn resolve_neurons(&self, flag: &str, count: usize) -> Result<Vec<usize>> {
        self.below(flag, count, "neuron", "the site")
    }
    /// As [`Layers::resolve`], for the positions of a sample.
    pub fn resolve_positions(&self, flag: &str, count: usize) -> Result<Vec<usize>> {
        self.below(flag, count, "position", "a sample")
    }
    fn below(&self, flag: &str, count: usize, what: &str, whole: &str) -> Result<Vec<usize>> {
        if let Some(beyond) = self.0.iter().map(|r| r.end).max().filter(|&end| end > count) {
            return Err(Error::flag(
                flag,
                format!("{what} {}", beyond - 1),
                format!("{what}s below {count}, as many as {whole} has"),
            ));
        }
        let mut layers: Vec<usize> = self.0.iter().cloned().flatten().collect();
        layers.sort_unstable();
        layers.dedup();
        Ok(layers)
    }
}

/// The name that is typed for a value of a flag.
pub fn typed<E: ValueEnum>(value: E) -> String {
    value.to_possible_value().map_or_else(String::new, |v| v.get_name().to_string())
}

/// Refuses a name that is listed twice.
pub fn check_unique(flag: &str, names: &[String]) -> Result<()> {
    let twice = names.iter().enumerate().find(|(i, n)| names[..*i].contains(n));
    twice.map_or(Ok(()), |(_, n)| Err(Error::flag(flag, format!("{n} twice"), "each name once")))
}

/// The header entries of a safetensors file that `command` writes: where its numbers come from.
/// Where they come from text, `text` says as JSON how it was cut (see [`data::TextInfo`]).
pub fn metadata(command: &str, model: &Loaded, data: &DataSet) -> Result<BTreeMap<String, String>> {
    let entries = [
        ("schema_version", "1"),
        ("command", command),
        ("version", env!("CARGO_PKG_VERSION")),
        ("model", &model.name),
        ("model_sha256", &model.sha256),
        ("weights", "raw"),
        ("data", &data.name),
        ("data_sha256", &data.sha256),
        ("dtype", model.numbers.name()),
    ];
    let mut entries: BTreeMap<_, _> = entries.into_iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    if let Some(text) = &data.text {
        let json = serde_json::to_string(text).map_err(|e| Error::numeric("text", e.to_string(), "values that JSON can hold"))?;
        entries.insert("text".into(), json);
    }
    Ok(entries)
}

/// Refuses an output file that is one of the files a command reads.
pub fn check_apart(out: &Path, model: &str, data: &str) -> Result<()> {
    let file = data.rsplit_once('#').map_or(data, |(file, _)| file);
    let parts = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    let read: Vec<PathBuf> = [data.into(), file.into()].into_iter().chain(parts.map(|p| Path::new(model).join(p))).collect();
    let Ok(out) = out.canonicalize() else { return Ok(()) };
    match read.iter().find(|path: &&PathBuf| path.canonicalize().is_ok_and(|p| p == out)) {
        None => Ok(()),
        Some(path) => Err(Error::flag("--out", format!("{}, which the command reads", path.display()), "another file")),
    }
}

/// Writes `value` to stdout as JSON.
pub fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value);
    print(&(text.map_err(|e| Error::numeric("--json", e.to_string(), "values that JSON can hold"))? + "\n"))
}

/// Writes to stdout. A reader that has left (`| head`) ends the output, not the program.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::io(Path::new("standard output"), "writing", e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::lib_args;

    #[test]
    fn bytes_take_suffixes_and_refuse_overflow() {
        assert_eq!([parse_bytes("17"), parse_bytes("2K"), parse_bytes("3m")], [Ok(17), Ok(2048), Ok(3 << 20)]);
        assert_eq!(parse_bytes("12G"), Ok(12 << 30));
        for bad in ["", "G", "0", "-1", "1.5G", "12T", "99999999999G", "1é"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn layers_are_ranges_or_lists() {
        let layers = |s: &str| s.parse::<Layers>().and_then(|l| l.resolve("--layers", 6).map_err(|e| e.to_string()));
        assert_eq!(layers("0..6"), Ok(vec![0, 1, 2, 3, 4, 5]));
        assert_eq!(layers("5,0..2,1"), Ok(vec![0, 1, 5]));
        assert_eq!(layers("2..7"), Err("--layers: found layer 6; expected layers below 6, as many as the model has".into()));
        let (largest, bad) = (format!("0..{}", usize::MAX), usize::MAX.to_string());
        assert!(layers(&largest).unwrap_err().contains("layers below 6"));
        for bad in ["", "3..3", "4..2", "1,,2", "-1", "a", "1..", bad.as_str()] {
            assert!(bad.parse::<Layers>().is_err(), "{bad}");
        }
    }

    #[test]
    fn illegal_common_flags_are_named() {
        let lib_args = |flags: &str| lib_args(&format!("--data D {flags}"));
        let refusal = |flags: &str| lib_args(flags).unwrap_err();
        assert_eq!(refusal("--adapter llvmpipe"), "--adapter: found llvmpipe; expected --backend wgpu beside it");
        assert!(lib_args("--adapter llvmpipe --backend wgpu").is_ok());
        assert_eq!(refusal("--cooperative"), "--cooperative: found another backend; expected --backend wgpu beside it");
        assert!(lib_args("--cooperative --backend wgpu").is_ok());
        assert_eq!(refusal("--driver interpreter"), "--driver: found interpreter; expected --backend cuda beside it");
        assert!(lib_args("--driver interpreter --backend cuda").is_ok());
        assert_eq!(refusal("--shard 1/4"), "--shard: found 1/4; expected no more than one part in this build");
        assert!(lib_args("--shard 0/1").is_ok());
        let values = [
            "--shard 4/4",
            "--batch 0",
            "--threads 0",
            "--threads 1025",
            "--max-memory lots",
            "--dtype f16",
            "--backend gpu",
            "--seed -1",
            "--progress bar",
        ];
        for flags in values {
            assert!(refusal(flags).starts_with("usage: "), "{flags}");
        }
    }

    #[test]
    fn the_device_and_dtype_follow_the_flags() {
        let common = |flags: &str| lib_args(&format!("--data D {flags}")).unwrap().common;
        let quiet = Progress::new(Mode::Quiet);
        let cpu = common("--threads 1 --backend cpu").device(DType::F64, &quiet).unwrap();
        assert_eq!(cpu.lanes(), 1);
        assert_eq!(common("").dtype(&cpu, DType::F64).unwrap(), DType::F64);
        assert_eq!(common("--dtype f32").dtype(&cpu, DType::F64).unwrap(), DType::F32);
        let error = common("--dtype bf16").dtype(&cpu, DType::F64).unwrap_err().to_string();
        assert!(error.contains("bf16") && error.contains("the cpu backend computes in f64 or f32"), "{error}");
        let interpreter = common("--backend cuda --driver interpreter --threads 2").device(DType::F64, &quiet).unwrap();
        assert_eq!((interpreter.backend(), interpreter.lanes()), ("cuda", 2));
        assert_eq!(common("--max-memory 2K").memory_limit(&cpu).unwrap(), 2048);
    }
}
