//! Sites: the places of a model whose activations can be captured, by our names, by those of
//! TransformerLens' hooks, and by the module paths of the library that a checkpoint comes from.

use super::Model;
use crate::error::{Error, Result};

/// A kind of place. All but [`Site::Logits`] are there once a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// Residual stream in front of the block.
    ResidPre,
    /// Queries, keys and values of each head.
    Q,
    K,
    V,
    /// Attention probabilities.
    Pattern,
    /// Values of each head as attention has mixed them.
    Z,
    /// What attention adds to the residual stream.
    AttnOut,
    /// Residual stream and attention; the MLP of a parallel block does not read it.
    ResidMid,
    /// Input of the activation function.
    MlpPre,
    /// Output of the activation function; of SoLU, before its LayerNorm.
    MlpMid,
    /// Input of the MLP's output projection.
    MlpAct,
    /// What the MLP adds to the residual stream.
    MlpOut,
    /// Residual stream behind the block.
    ResidPost,
    /// Of an MLP model: input of a layer.
    Act,
    /// Of an MLP model: a layer's input times its weight, plus its bias.
    Pre,
    /// Output of the model.
    Logits,
}

/// Site, our name, and the last parts of TransformerLens' name.
const TRANSFORMER: [(Site, &str, &str); 14] = [
    (Site::ResidPre, "resid_pre", "hook_resid_pre"),
    (Site::ResidMid, "resid_mid", "hook_resid_mid"),
    (Site::ResidPost, "resid_post", "hook_resid_post"),
    (Site::MlpPre, "mlp_pre", "mlp.hook_pre"),
    (Site::MlpMid, "mlp_mid", "mlp.hook_mid"),
    (Site::MlpAct, "mlp_act", "mlp.hook_post"),
    (Site::MlpOut, "mlp_out", "hook_mlp_out"),
    (Site::AttnOut, "attn_out", "hook_attn_out"),
    (Site::Q, "q", "attn.hook_q"),
    (Site::K, "k", "attn.hook_k"),
    (Site::V, "v", "attn.hook_v"),
    (Site::Z, "z", "attn.hook_z"),
    (Site::Pattern, "pattern", "attn.hook_pattern"),
    (Site::Logits, "logits", "logits"),
];
const MLP: [(Site, &str, &str); 3] = [(Site::Act, "act", "act"), (Site::Pre, "pre", "pre"), (Site::Logits, "logits", "logits")];

/// What stands for the number of a layer in the path of a module.
pub const ANY_LAYER: &str = "L";

/// A site of one layer; the layer of the logits is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub layer: usize,
    pub site: Site,
}

impl Place {
    /// The name of its tensor: `SITE.LAYER`, or `logits`.
    pub fn name(&self) -> String {
        let name = TRANSFORMER.iter().chain(&MLP).find(|(site, ..)| *site == self.site).map_or("", |(_, name, _)| name);
        if self.site == Site::Logits { name.into() } else { format!("{name}.{}", self.layer) }
    }
}

impl Model {
    /// Number of layers: blocks of a transformer, linear maps of an MLP.
    pub fn layers(&self) -> usize {
        match self {
            Model::Transformer(t) => t.config.n_layers,
            Model::Lm(lm) => lm.blocks.len(),
            Model::Mlp(m) => m.layers.len(),
        }
    }
    /// The places that `names` stand for, in model order, each once. A name is one of ours or of
    /// TransformerLens' (`mlp_act`, `mlp.hook_post`), or the path of a module whose output (or, with
    /// `.input` behind it, whose input) it is; with a layer (`mlp_act.3`, `mlp.hook_post.3`,
    /// `blocks.3.mlp.hook_post`, `model.layers.3.mlp`) or without one (in a path: [`ANY_LAYER`]), which
    /// stands for all of `layers`. Fails on a name that is unknown or has a layer the model lacks,
    /// naming `flag`.
    pub fn places(&self, flag: &str, names: &[String], layers: &[usize]) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        for name in names {
            let (site, layer) = self.site(name).ok_or_else(|| self.unknown(flag, name))?;
            match layer {
                _ if site == Site::Logits => places.push(Place { layer: 0, site }),
                None => places.extend(layers.iter().map(|&layer| Place { layer, site })),
                Some(layer) if layer < self.layers() => places.push(Place { layer, site }),
                Some(_) => {
                    let expected = format!("layers below {}, as many as the model has", self.layers());
                    return Err(Error::flag(flag, name, expected));
                }
            }
        }
        places.sort_unstable_by_key(|p| (p.site == Site::Logits, *p));
        places.dedup();
        Ok(places)
    }
    fn table(&self) -> &'static [(Site, &'static str, &'static str)] {
        match self {
            Model::Transformer(_) | Model::Lm(_) => &TRANSFORMER,
            Model::Mlp(_) => &MLP,
        }
    }
    fn site(&self, name: &str) -> Option<(Site, Option<usize>)> {
        let find =
            |kind: &str| self.table().iter().find(|(_, ours, hook)| kind == *ours || kind == *hook).map(|(site, ..)| *site);
        if let Some(found) = self.module(name) {
            return Some(found);
        }
        if let Some((layer, kind)) = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
            return find(kind).filter(|s| *s != Site::Logits).zip(layer.parse().ok().map(Some));
        }
        if let Some(site) = find(name) {
            return Some((site, None));
        }
        let (kind, layer) = name.rsplit_once('.')?;
        find(kind).filter(|s| *s != Site::Logits).zip(layer.parse().ok().map(Some))
    }
    /// The site that is the output of a module of the checkpoint's own library, and its layer.
    fn module(&self, name: &str) -> Option<(Site, Option<usize>)> {
        let Model::Lm(lm) = self else { return None };
        if let Some(site) = lm.paths.get(name) {
            return Some((*site, None));
        }
        let number = name.split('.').find(|part| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit()))?;
        let parts: Vec<&str> = name.split('.').map(|part| if part == number { ANY_LAYER } else { part }).collect();
        lm.paths.get(&parts.join(".")).copied().zip(number.parse().ok().map(Some))
    }
    fn unknown(&self, flag: &str, name: &str) -> Error {
        let names: Vec<&str> = self.table().iter().map(|(_, name, _)| *name).collect();
        let hooks = match self {
            Model::Transformer(_) => ", or a TransformerLens hook such as blocks.0.mlp.hook_post".into(),
            Model::Lm(lm) => {
                let paths: Vec<&str> = lm.paths.keys().map(String::as_str).collect();
                let hook = ", or a TransformerLens hook such as blocks.0.mlp.hook_post";
                format!("{hook}, or a module of layer {ANY_LAYER}: {}", paths.join(", "))
            }
            Model::Mlp(_) => String::new(),
        };
        Error::flag(flag, name, format!("one of {}, with or without .LAYER{hooks}", names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DType;
    use crate::model::fixture::{mlp_config, transformer_config};
    use crate::model::{ActFn, Norm, random_mlp, random_transformer};

    fn names(model: &Model, names: &str, layers: &[usize]) -> std::result::Result<Vec<String>, String> {
        let names: Vec<String> = names.split(',').map(String::from).collect();
        let places = model.places("--sites", &names, layers).map_err(|e| e.to_string())?;
        Ok(places.iter().map(Place::name).collect())
    }

    #[test]
    fn aliases_have_our_names() {
        let m = Model::Transformer(random_transformer(transformer_config(Norm::Ln, ActFn::SoluLn), DType::F32, 1).unwrap());
        for (site, ours, hook) in TRANSFORMER.iter().filter(|(s, ..)| *s != Site::Logits) {
            let all = vec![format!("{ours}.0"), format!("{ours}.1")];
            assert_eq!(names(&m, ours, &[0, 1]).as_ref(), Ok(&all), "{site:?}");
            assert_eq!(names(&m, hook, &[0, 1]).as_ref(), Ok(&all), "{site:?}");
            for name in [format!("{ours}.1"), format!("{hook}.1"), format!("blocks.1.{hook}"), format!("blocks.1.{ours}")] {
                assert_eq!(names(&m, &name, &[]), Ok(vec![all[1].clone()]), "{name}");
            }
        }
        let mixed = names(&m, "logits,resid_post,blocks.1.mlp.hook_post,mlp_act.1,pattern", &[1]).unwrap();
        assert_eq!(mixed, ["pattern.1", "mlp_act.1", "resid_post.1", "logits"]);
    }

    #[test]
    fn unknown_names_list_the_known_ones() {
        let m = Model::Transformer(random_transformer(transformer_config(Norm::Ln, ActFn::Relu), DType::F32, 1).unwrap());
        for bad in [
            "mlp",
            "",
            ".",
            "mlp_act.",
            "mlp_act.x",
            "mlp_act.-1",
            "blocks.mlp.hook_post",
            "blocks.0.",
            "logits.0",
            "blocks.0.logits",
            "act.0",
        ] {
            let e = names(&m, bad, &[0]).unwrap_err();
            let list = "expected one of resid_pre, resid_mid, resid_post, mlp_pre, mlp_mid, mlp_act";
            assert!(e.starts_with(&format!("--sites: found {bad}; {list}")) && e.contains("logits, with"), "{e}");
        }
        for bad in ["mlp_act.2", "blocks.2.hook_resid_pre"] {
            assert_eq!(
                names(&m, bad, &[0]).unwrap_err(),
                format!("--sites: found {bad}; expected layers below 2, as many as the model has")
            );
        }
        let mlp = Model::Mlp(random_mlp(mlp_config(true), DType::F32, 1).unwrap());
        assert_eq!(names(&mlp, "pre,act.2,logits", &[0, 2]).unwrap(), ["pre.0", "act.2", "pre.2", "logits"]);
        assert!(names(&mlp, "mlp_act", &[0]).unwrap_err().ends_with("expected one of act, pre, logits, with or without .LAYER"));
    }
}
