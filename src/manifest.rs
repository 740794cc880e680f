//! `run.json`, the manifest of a run: what was computed from what, on which device, by which road,
//! how long it took and how much memory it held.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::data::{DataSet, TextInfo};
use crate::device::{DType, Device, Placed};
use crate::error::{Error, Result};
use crate::text;

/// The layout of `run.json` that this build writes and reads.
pub const SCHEMA_VERSION: u32 = 1;

/// Flags that change neither the numbers of a run nor what is computed, or that another field of
/// the [`Fingerprint`] stands for: two runs may differ in them and still be the same work.
const NOT_COMPARED: [&str; 17] = [
    "adapter",
    "augment",
    "backend",
    "batch",
    "config",
    "cooperative",
    "data",
    "dtype",
    "force",
    "gram-data",
    "held-out",
    "max-memory",
    "out",
    "progress",
    "quiet",
    "seed",
    "threads",
];

/// A model or a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its name as reports show it.
    pub name: String,
    /// Where it was read: as given on the command line, a relative path made absolute.
    pub path: String,
    /// SHA-256 of its content, lower-case hexadecimal.
    pub sha256: String,
    /// How its samples were cut, where it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextInfo>,
}

impl Source {
    /// A source given as `spec` on the command line: a path, `FILE#NAME` or `demo:NAME`.
    pub fn new(name: impl Into<String>, spec: &str, sha256: impl Into<String>) -> Self {
        let path = match spec.starts_with("demo:") {
            true => spec.into(),
            false => std::path::absolute(spec).map_or_else(|_| spec.into(), |p| p.to_string_lossy().into_owned()),
        };
        Self { name: name.into(), path, sha256: sha256.into(), text: None }
    }
    /// The source of a data set given as `spec`.
    pub fn of_data(set: &DataSet, spec: &str) -> Self {
        Self { text: set.text.clone(), ..Self::new(set.name.clone(), spec, set.sha256.clone()) }
    }
    /// The same content under the same name; where it lies does not matter.
    fn is_same(&self, other: &Self) -> bool {
        self.name == other.name && self.sha256 == other.sha256
    }
}

/// The model that proposes substitutes of words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposals {
    /// How it does that: `mlm` or `embedding`.
    pub kind: String,
    #[serde(flatten)]
    pub model: Source,
    pub tokenizer_sha256: String,
}

impl Proposals {
    fn label(&self) -> String {
        let short = |sha256: &str| sha256.get(..12).unwrap_or(sha256).to_string();
        let Source { name, sha256, .. } = &self.model;
        format!("{}:{name} (sha256 {}, tokenizer {})", self.kind, short(sha256), short(&self.tokenizer_sha256))
    }
}

/// What decides the numbers of a run. Two runs of one fingerprint are the same work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The subcommand.
    pub command: String,
    /// Version of mechgraph.
    pub version: String,
    /// Every flag that was set or has a default, by its long name, as it would be typed.
    pub config: BTreeMap<String, String>,
    pub model: Source,
    pub data: Option<Source>,
    /// The data set of means and Gram matrices, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gram_data: Option<Source>,
    /// The text that scores are measured on, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<Source>,
    /// What proposes substitutes of words, where something does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<Proposals>,
    pub seed: u64,
    pub dtype: DType,
    /// The backend's name.
    pub backend: String,
}

impl Fingerprint {
    /// One phrase per field in which `self` differs from `other`: `dtype is f32, not f64`.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |field: &str, mine: &str, theirs: &str| {
            if mine != theirs {
                found.push(format!("{field} is {mine}, not {theirs}"));
            }
        };
        compare("command", &self.command, &other.command);
        compare("version", &self.version, &other.version);
        compare("seed", &self.seed.to_string(), &other.seed.to_string());
        compare("dtype", self.dtype.name(), other.dtype.name());
        compare("backend", &self.backend, &other.backend);
        let mut compare_source = |field: &str, mine: Option<&Source>, theirs: Option<&Source>| match (mine, theirs) {
            (Some(a), Some(b)) if a.is_same(b) => {}
            _ => compare(field, &label(mine), &label(theirs)),
        };
        compare_source("model", Some(&self.model), Some(&other.model));
        compare_source("data", self.data.as_ref(), other.data.as_ref());
        compare_source("gram data", self.gram_data.as_ref(), other.gram_data.as_ref());
        compare_source("held-out text", self.held_out.as_ref(), other.held_out.as_ref());
        let proposals = |of: &Self| of.augment.as_ref().map_or_else(|| "none".into(), Proposals::label);
        compare("augmentation", &proposals(self), &proposals(other));
        // The tokenizer is no part of the model's hash; how text is cut follows from the flags.
        compare("tokenizer", &self.tokenizer(), &other.tokenizer());
        let keys: BTreeSet<&String> = self.config.keys().chain(other.config.keys()).collect();
        for key in keys.into_iter().filter(|k| !NOT_COMPARED.contains(&k.as_str())) {
            let value = |c: &BTreeMap<String, String>| c.get(key).cloned().unwrap_or_else(|| "unset".into());
            compare(&format!("--{key}"), &value(&self.config), &value(&other.config));
        }
        found
    }
    /// SHA-256 of the tokenizer that cut the data, shortened.
    fn tokenizer(&self) -> String {
        let text = [&self.data, &self.gram_data].into_iter().flatten().find_map(|source| source.text.as_ref());
        text.map_or_else(|| "unset".into(), |t| t.tokenizer_sha256.chars().take(12).collect())
    }
}

fn label(source: Option<&Source>) -> String {
    source.map_or_else(|| "unset".into(), |s| format!("{} (sha256 {})", s.name, s.sha256.get(..12).unwrap_or(&s.sha256)))
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Running,
    Done,
}

/// The device of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    pub backend: String,
    pub name: String,
    /// Work items that run side by side; CPU threads on the CPU.
    pub threads: usize,
}

impl DeviceInfo {
    pub fn of(device: &Device) -> Self {
        Self { backend: device.backend().into(), name: device.describe(), threads: device.lanes() }
    }
}

/// By which road the numbers of a section were computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Road {
    /// `FROM->TO`, the node layers around the section.
    pub section: String,
    /// `closed form` or `jvp`.
    pub road: String,
    pub why: String,
}

/// A node layer of a LIB run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLayer {
    pub name: String,
    /// Coordinates d.
    pub width: usize,
    /// Features k: directions of the basis, or the coordinates where there is none.
    pub features: usize,
    /// Whether there is a basis.
    pub rotated: bool,
    /// Whether feature 0 is the constant of a centred basis.
    pub constant: bool,
}

/// The content of `run.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    pub schema_version: u32,
    pub status: Status,
    #[serde(flatten)]
    pub fingerprint: Fingerprint,
    pub device: DeviceInfo,
    /// Start of the run, RFC 3339 in UTC.
    pub started: String,
    /// Seconds of wall time per stage; stages of one name are added up.
    pub times_seconds: BTreeMap<String, f64>,
    /// The most memory the process held, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// The peak that the plan foresaw.
    pub plan_bytes: Option<u64>,
    pub roads: Vec<Road>,
    /// Which operations ran on the device and which on the host; absent on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<Placed>,
    /// In the model's order; empty until a LIB run is done.
    #[serde(default)]
    pub node_layers: Vec<NodeLayer>,
    /// Every parameter of an N2G run, those that no flag set included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<serde_json::Value>,
}

impl Manifest {
    /// The manifest of a run that starts now.
    pub fn new(fingerprint: Fingerprint, device: DeviceInfo) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            status: Status::Running,
            fingerprint,
            device,
            started: rfc3339(SystemTime::now()),
            times_seconds: BTreeMap::new(),
            peak_memory_bytes: None,
            plan_bytes: None,
            roads: Vec::new(),
            operations: None,
            node_layers: Vec::new(),
            settings: None,
        }
    }
    /// Reads and checks a `run.json`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = text::read_utf8(path, "a run.json that mechgraph wrote")?;
        let malformed =
            |e: serde_json::Error| Error::file(path, format!("a malformed manifest ({e})"), "a run.json that mechgraph wrote");
        let json: serde_json::Value = serde_json::from_str(&text).map_err(malformed)?;
        // The version comes first: a newer layout may lack the fields of this one.
        match json.get("schema_version").and_then(|v| v.as_u64()) {
            Some(v) if v == u64::from(SCHEMA_VERSION) => serde_json::from_value(json).map_err(malformed),
            Some(v) => Err(Error::file(path, format!("schema_version {v}"), format!("schema_version {SCHEMA_VERSION}"))),
            None => Err(Error::file(path, "no schema_version", "a run.json that mechgraph wrote")),
        }
    }
    /// The text of `run.json`.
    pub fn to_json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        text.map(|t| t + "\n").map_err(|e| Error::numeric("run.json", e.to_string(), "values that JSON can hold"))
    }
    /// `Ok` if both manifests describe the same work, else the differences, field by field.
    pub fn matches(&self, other: &Fingerprint) -> std::result::Result<(), Vec<String>> {
        let differences = self.fingerprint.differences(other);
        if differences.is_empty() { Ok(()) } else { Err(differences) }
    }
    /// Marks the run as done: takes over the times of its stages and reads the memory peak.
    pub fn finish(&mut self, times: Vec<(String, f64)>) {
        for (stage, seconds) in times {
            *self.times_seconds.entry(stage).or_insert(0.0) += seconds;
        }
        self.peak_memory_bytes = peak_memory();
        self.status = Status::Done;
    }
}

/// The most memory this process has held, in bytes (`VmHWM`); `None` where the system does not tell.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// `YYYY-MM-DDThh:mm:ssZ`. A time before 1970 is given as 1970.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (mut days, clock) = (seconds / 86_400, seconds % 86_400);
    let is_leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    format!("{year:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", month + 1, days + 1)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::time::Duration;

    /// A manifest of a small run, for tests of this and other modules.
    pub(crate) fn example() -> Manifest {
        let fingerprint = Fingerprint {
            command: "lib".into(),
            version: "0.1.0".into(),
            config: BTreeMap::from([("basis".into(), "jacobian".into()), ("threads".into(), "2".into())]),
            model: Source::new("modadd", "/models/modadd", "aa".repeat(32)),
            data: Some(Source::new("pairs", "/data/pairs.safetensors#train", "bb".repeat(32))),
            gram_data: None,
            held_out: None,
            augment: None,
            seed: 0,
            dtype: DType::F64,
            backend: "cpu".into(),
        };
        Manifest::new(fingerprint, DeviceInfo { backend: "cpu".into(), name: "CPU, 2 threads".into(), threads: 2 })
    }

    #[test]
    fn survives_a_round_trip() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        let mut manifest = example();
        manifest.roads.push(Road { section: "ln1.0->ln2.0".into(), road: "jvp".into(), why: "asked for".into() });
        manifest.finish(vec![("grams".into(), 1.5), ("edges".into(), 2.0), ("grams".into(), 0.25)]);
        std::fs::write(&path, manifest.to_json().unwrap()).unwrap();
        let back = Manifest::read(&path).unwrap();
        assert_eq!(back.matches(&manifest.fingerprint), Ok(()));
        assert_eq!((back.status, &back.device, &back.roads), (Status::Done, &manifest.device, &manifest.roads));
        assert_eq!(back.times_seconds, BTreeMap::from([("edges".into(), 2.0), ("grams".into(), 1.75)]));
        assert_eq!(back.started, manifest.started);
        let json: serde_json::Value = serde_json::from_str(&manifest.to_json().unwrap()).unwrap();
        let keys = "command version config model data seed dtype device started peak_memory_bytes plan_bytes";
        for key in keys.split(' ') {
            assert!(json.get(key).is_some(), "{key}");
        }
        assert_eq!((json["status"].as_str(), json["dtype"].as_str()), (Some("done"), Some("f64")));
    }

    #[test]
    fn names_what_differs_and_only_that() {
        let mine = example().fingerprint;
        let mut other = mine.clone();
        other.config.insert("threads".into(), "7".into());
        other.config.insert("batch".into(), "3".into());
        other.model.path = "/elsewhere/modadd".into();
        assert_eq!(mine.differences(&other), Vec::<String>::new());
        other.config.insert("basis".into(), "pca".into());
        other.config.insert("intervals".into(), "2".into());
        other.data = None;
        other.dtype = DType::F32;
        other.seed = 1;
        other.model.sha256 = "cc".repeat(32);
        let found = mine.differences(&other).join("; ");
        let model = "model is modadd (sha256 aaaaaaaaaaaa), not modadd (sha256 cccccccccccc)";
        let data = "data is pairs (sha256 bbbbbbbbbbbb), not unset";
        let flags = "--basis is jacobian, not pca; --intervals is unset, not 2";
        assert_eq!(found, format!("seed is 0, not 1; dtype is f64, not f32; {model}; {data}; {flags}"));
    }

    #[test]
    fn other_proposals_are_other_work() {
        let with = |kind: &str, path: &str, sha256: &str, tokenizer: &str| Fingerprint {
            augment: Some(Proposals {
                kind: kind.into(),
                model: Source::new("bert", path, sha256.repeat(32)),
                tokenizer_sha256: tokenizer.repeat(32),
            }),
            ..example().fingerprint
        };
        let mine = with("mlm", "/m/bert", "aa", "bb");
        assert_eq!(mine.differences(&with("mlm", "/elsewhere/bert", "aa", "bb")), Vec::<String>::new());
        let own = "augmentation is mlm:bert (sha256 aaaaaaaaaaaa, tokenizer bbbbbbbbbbbb), not";
        for (other, label) in [
            (with("embedding", "/m/bert", "aa", "bb"), "embedding:bert (sha256 aaaaaaaaaaaa, tokenizer bbbbbbbbbbbb)"),
            (with("mlm", "/m/bert", "cc", "bb"), "mlm:bert (sha256 cccccccccccc, tokenizer bbbbbbbbbbbb)"),
            (with("mlm", "/m/bert", "aa", "cc"), "mlm:bert (sha256 aaaaaaaaaaaa, tokenizer cccccccccccc)"),
            (example().fingerprint, "none"),
        ] {
            assert_eq!(mine.differences(&other), [format!("{own} {label}")]);
        }
        let json = serde_json::to_value(&mine).unwrap();
        assert_eq!(serde_json::from_value::<Fingerprint>(json).unwrap().augment, mine.augment);
    }

    #[test]
    fn another_tokenizer_is_other_work() {
        let cut_by = |tokenizer: &str| {
            let mut fingerprint = example().fingerprint;
            let text = serde_json::json!({
                "source": "txt", "window": 5, "bos": null, "eos": null, "documents": 1, "tokens": 9, "dropped": 4,
                "tokenizer_sha256": tokenizer.repeat(32),
            });
            fingerprint.data.as_mut().unwrap().text = serde_json::from_value(text).unwrap();
            fingerprint
        };
        assert_eq!(cut_by("aa").differences(&cut_by("aa")), Vec::<String>::new());
        assert_eq!(cut_by("aa").differences(&cut_by("bb")), ["tokenizer is aaaaaaaaaaaa, not bbbbbbbbbbbb"]);
        let json = serde_json::to_value(cut_by("aa")).unwrap();
        let back: Fingerprint = serde_json::from_value(json.clone()).unwrap();
        assert_eq!((back.data, &json["data"]["text"]["dropped"]), (cut_by("aa").data, &serde_json::json!(4)));
    }

    #[test]
    fn refuses_what_is_no_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        let text = example().to_json().unwrap();
        let newer = text.replace("\"schema_version\": 1", "\"schema_version\": 9");
        let half = &text[..text.len() / 2];
        let cases = [("{", "malformed"), ("[]", "no schema_version"), (newer.as_str(), "schema_version 9"), (half, "malformed")];
        for (content, part) in cases {
            std::fs::write(&path, content).unwrap();
            let error = Manifest::read(&path).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("run.json"), "{error}");
        }
    }

    #[test]
    fn writes_times_as_rfc3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
