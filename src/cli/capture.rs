//! `mechgraph capture`: writes activations at named sites of a model to a file.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;

use super::common::{Common, DataFlags, Layers, check_apart, check_unique, metadata};
use super::run_dir::check_free;
use crate::device::DType;
use crate::error::Result;
use crate::model::Model;
use crate::model::capture::capture;

/// Write activations at named sites of a model
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Folder of the model, demo:modadd or demo:lm
    #[arg(value_name = "MODEL")]
    pub model: String,
    #[command(flatten)]
    pub data: DataFlags,
    /// File to write, safetensors
    #[arg(long, value_name = "F")]
    pub out: PathBuf,
    /// Sites, as in resid_pre,mlp_act,logits
    #[arg(long, required = true, value_name = "S,S,..", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    pub sites: Vec<String>,
    /// Layers, as in 0..6 (without 6) or 0,3 [default: all]
    #[arg(long, value_name = "LAYERS")]
    pub layers: Option<Layers>,
    /// Positions, as in 0..6 (without 6) or 0,3 [default: all]
    #[arg(long, value_name = "POSITIONS")]
    pub positions: Option<Layers>,
    #[command(flatten)]
    pub common: Common,
}

impl Args {
    /// Refuses combinations of flags that contradict each other, and an output file that exists.
    pub fn check(&self) -> Result<()> {
        self.common.check()?;
        self.data.check(&self.model)?;
        check_unique("--sites", &self.sites)?;
        check_apart(&self.out, &self.model, &self.data.or_split(&self.model, "train"))?;
        check_free(&self.out, self.common.force)
    }
}

/// Runs `mechgraph capture`.
pub fn run(args: Args) -> Result<()> {
    args.check()?;
    let spec = args.data.or_split(&args.model, "train");
    let progress = args.common.progress();
    let device = args.common.device(DType::F32, &progress)?;
    let loaded = Model::load(&args.model, args.common.numbers(&device, DType::F32)?)?;
    let count = loaded.model.layers();
    let layers = args.layers.as_ref().map_or_else(|| Ok((0..count).collect()), |l| l.resolve("--layers", count))?;
    let places = loaded.model.places("--sites", &args.sites, &layers)?;
    let set = args.data.load(&spec, &loaded)?;
    let runner = args.common.runner(&device, &progress)?;
    let positions = args.positions.as_ref().map(|p| p.resolve_positions("--positions", set.samples.positions())).transpose()?;
    let mut metadata = metadata("capture", &loaded, &set)?;
    if let Some(positions) = &positions {
        metadata.insert("positions".into(), serde_json::json!(positions).to_string());
    }
    capture(&loaded.model, &set, &places, positions.as_deref(), &runner, &args.out, &metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Command;
    use crate::cli::tests::parsed;
    use crate::model::Checkpoint;

    fn capture(flags: &str) -> std::result::Result<(), String> {
        match parsed(&format!("mechgraph capture {flags} --quiet"))? {
            Command::Capture(args) => run(args).map_err(|e| e.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_file_tells_where_it_comes_from() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.safetensors");
        let demo = format!("demo:modadd --out {}", path.display());
        capture(&format!("{demo} --sites mlp_act,blocks.0.hook_resid_pre,logits --data demo:modadd#test --dtype f64")).unwrap();
        let file = Checkpoint::open(&path).unwrap();
        let shapes: Vec<_> = file.names().map(|n| (n.to_string(), file.shape(n).unwrap().to_vec())).collect();
        let shape = |name: &str, shape: &[usize]| (name.to_string(), shape.to_vec());
        let want = [
            shape("logits", &[8939, 1, 114]),
            shape("mlp_act.0", &[8939, 1, 512]),
            shape("resid_pre.0", &[8939, 3, 128]),
            shape("tokens", &[8939, 3]),
        ];
        assert_eq!(shapes, want);
        let (_, header) = safetensors::SafeTensors::read_metadata(file.bytes()).unwrap();
        let entries = header.metadata().clone().unwrap();
        let model = Model::load("demo:modadd", DType::F64).unwrap();
        let of = |key: &str| entries[key].as_str();
        assert_eq!((of("schema_version"), of("command"), of("weights"), of("dtype")), ("1", "capture", "raw", "f64"));
        assert_eq!((of("model"), of("model_sha256"), of("data")), ("demo:modadd", &*model.sha256, "demo:modadd#test"));

        let again = capture(&format!("{demo} --sites logits")).unwrap_err();
        assert!(again.contains("a file that exists already; expected a new name, or --force"), "{again}");
        capture(&format!("{demo} --sites logits --force")).unwrap();
        let file = Checkpoint::open(&path).unwrap();
        assert_eq!(file.shape("logits"), Some(&[3830, 1, 114][..]));
        assert!(!file.names().any(|n| n == "mlp_act.0"));
    }

    #[test]
    fn refusals_write_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let out = format!("demo:modadd --out {}", dir.path().join("f").display());
        for (flags, part) in [
            ("--sites resid", "--sites: found resid; expected one of resid_pre, "),
            ("--sites mlp_act.1", "--sites: found mlp_act.1; expected layers below 1"),
            ("--sites mlp_act --layers 0..2", "--layers: found layer 1; expected layers below 1"),
            ("--sites q,q", "--sites: found q twice"),
            ("--sites q --data none.safetensors", "none.safetensors: no such file"),
            ("--sites q --data demo:modadd#none", "tensor none.tokens"),
            ("--sites q --max-memory 1K", "memory: the plan needs"),
        ] {
            let e = capture(&format!("{out} {flags}")).unwrap_err();
            assert!(e.contains(part) && !e.contains('\n'), "{flags}: {e}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn inputs_are_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("demos/modadd");
        for name in ["config.json", "model.safetensors", "dataset.safetensors"] {
            std::fs::copy(folder.join(name), dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
        let d = dir.path().display();
        for name in ["config.json", "model.safetensors", "dataset.safetensors", "./model.safetensors", "tokenizer.json"] {
            let e = capture(&format!("{d} --data {d}/dataset.safetensors#test --out {d}/{name} --sites q --force")).unwrap_err();
            assert!(e.starts_with("--out: found ") && e.contains("which the command reads; expected another file"), "{e}");
        }
    }
}
