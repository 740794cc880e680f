//! `mechgraph jvp`: applies the Jacobians of a transformer's blocks to given tangents and cotangents.

use std::path::PathBuf;

use super::common::{Common, check_apart, metadata};
use super::run_dir::check_free;
use crate::data;
use crate::device::DType;
use crate::error::{Error, Result};
use crate::model::block_jvp::products;
use crate::model::{Checkpoint, Model};

/// Apply block Jacobians to given tangents and cotangents
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Folder of the model, demo:modadd or demo:lm
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// safetensors with tokens and tangent.L or cotangent.L
    #[arg(long, value_name = "F")]
    pub data: String,
    /// File to write, safetensors
    #[arg(long, value_name = "G")]
    pub out: PathBuf,
    #[command(flatten)]
    pub common: Common,
}

impl Args {
    /// Refuses combinations of flags that contradict each other, and an output file that exists.
    pub fn check(&self) -> Result<()> {
        self.common.check()?;
        check_apart(&self.out, &self.model, &self.data)?;
        check_free(&self.out, self.common.force)
    }
}

/// Runs `mechgraph jvp`.
pub fn run(args: Args) -> Result<()> {
    args.check()?;
    let progress = args.common.progress();
    let device = args.common.device(DType::F32, &progress)?;
    let loaded = Model::load(&args.model, args.common.numbers(&device, DType::F32)?)?;
    let Some(model) = loaded.model.lm() else {
        return Err(Error::flag("MODEL", format!("{}, an mlp", loaded.name), "a transformer: an mlp has no blocks"));
    };
    let set = data::load(&args.data, &loaded.model)?;
    let file = Checkpoint::open(args.data.as_ref())?;
    let runner = args.common.runner(&device, &progress)?;
    products(&model, &set, &file, &runner, &args.out, &metadata("jvp", &loaded, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Command;
    use crate::cli::tests::parsed;
    use crate::model::fixture::{Tensors, mlp_config, write};
    use crate::model::{random_mlp, save};

    fn jvp(flags: &str) -> std::result::Result<(), String> {
        match parsed(&format!("mechgraph jvp {flags} --quiet"))? {
            Command::Jvp(args) => run(args).map_err(|e| e.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn products_carry_the_names_of_their_directions() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("f.safetensors"), dir.path().join("g"));
        let tokens: Vec<u8> = [3i64, 4, 113, 5, 6, 113].iter().flat_map(|x| x.to_le_bytes()).collect();
        let ones: Vec<u8> = std::iter::repeat_n(1f32.to_le_bytes(), 2 * 3 * 128).flatten().collect();
        let direction = ("F32", vec![2, 3, 128], ones);
        let mut tensors =
            Tensors::from([("tokens".into(), ("I64", vec![2, 3], tokens)), ("tangent.0".into(), direction.clone())]);
        write(&from, &tensors);
        let flags = format!("demo:modadd --data {} --out {}", from.display(), to.display());
        jvp(&flags).unwrap();
        let file = Checkpoint::open(&to).unwrap();
        assert_eq!((file.names().collect::<Vec<_>>(), file.shape("jvp.0")), (vec!["jvp.0"], Some(&[2, 1, 128][..])));
        assert!(jvp(&flags).unwrap_err().contains("--force"));
        assert!(jvp(&format!("demo:modadd --data {0} --out {0} --force", from.display())).unwrap_err().contains("--out: found"));
        tensors.insert("cotangent.0".into(), direction);
        write(&from, &tensors);
        jvp(&format!("{flags} --force --dtype f64")).unwrap();
        let file = Checkpoint::open(&to).unwrap();
        assert_eq!((file.shape("jvp.0"), file.shape("vjp.0")), (Some(&[2, 1, 128][..]), Some(&[2, 3, 128][..])));
        assert!(file.tensor_f64("vjp.0", &[2, 3, 128]).unwrap().iter().any(|x| *x != 0.0));
        tensors.remove("tokens");
        write(&from, &tensors);
        let e = jvp(&format!("{flags} --force")).unwrap_err();
        assert!(e.contains("tensor tokens: not in the file, which holds cotangent.0, tangent.0"), "{e}");
    }

    #[test]
    fn an_mlp_has_no_blocks() {
        let dir = tempfile::tempdir().unwrap();
        save(&Model::Mlp(random_mlp(mlp_config(true), DType::F32, 1).unwrap()), dir.path()).unwrap();
        let d = dir.path().display();
        let e = jvp(&format!("{d} --data {d}/none --out {d}/g")).unwrap_err();
        assert!(e.contains(", an mlp; expected a transformer"), "{e}");
    }
}
