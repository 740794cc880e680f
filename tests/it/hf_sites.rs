//! Names of sites in Hugging Face folders: the module paths of that library, TransformerLens' hooks and our
//! names give the same tensors; a path that is no site's is refused with the list of those that are.

use mechgraph::device::DType;
use mechgraph::model::Model;

use crate::command::{Case, failure, read, run};
use crate::hf_folder::{FAMILIES, case};

/// Our names, each with the module paths of a block that stand for it; `.input` is what the module reads.
fn modules(family: &str) -> (&'static str, Vec<(&'static str, &'static str)>) {
    match family {
        "gpt2" => (
            "transformer.h",
            vec![
                ("attn_out", "attn"),
                ("attn_out", "attn.c_proj"),
                ("z", "attn.c_proj.input"),
                ("mlp_pre", "mlp.c_fc"),
                ("mlp_act", "mlp.act"),
                ("mlp_act", "mlp.c_proj.input"),
                ("mlp_out", "mlp"),
                ("mlp_out", "mlp.c_proj"),
            ],
        ),
        "gpt_neo" => (
            "transformer.h",
            vec![
                ("q", "attn.attention.q_proj"),
                ("k", "attn.attention.k_proj"),
                ("v", "attn.attention.v_proj"),
                ("attn_out", "attn"),
                ("attn_out", "attn.attention.out_proj"),
                ("z", "attn.attention.out_proj.input"),
                ("mlp_pre", "mlp.c_fc"),
                ("mlp_act", "mlp.act"),
                ("mlp_act", "mlp.c_proj.input"),
                ("mlp_out", "mlp"),
                ("mlp_out", "mlp.c_proj"),
            ],
        ),
        "gpt_neox" => (
            "gpt_neox.layers",
            vec![
                ("attn_out", "attention"),
                ("attn_out", "attention.dense"),
                ("z", "attention.dense.input"),
                ("mlp_pre", "mlp.dense_h_to_4h"),
                ("mlp_act", "mlp.act"),
                ("mlp_act", "mlp.dense_4h_to_h.input"),
                ("mlp_out", "mlp"),
                ("mlp_out", "mlp.dense_4h_to_h"),
            ],
        ),
        "phi" => (
            "model.layers",
            vec![
                ("q", "self_attn.q_proj"),
                ("k", "self_attn.k_proj"),
                ("v", "self_attn.v_proj"),
                ("attn_out", "self_attn"),
                ("attn_out", "self_attn.dense"),
                ("z", "self_attn.dense.input"),
                ("mlp_pre", "mlp.fc1"),
                ("mlp_act", "mlp.activation_fn"),
                ("mlp_act", "mlp.fc2.input"),
                ("mlp_out", "mlp"),
                ("mlp_out", "mlp.fc2"),
            ],
        ),
        "bert" => (
            "bert.encoder.layer",
            vec![
                ("q", "attention.self.query"),
                ("k", "attention.self.key"),
                ("v", "attention.self.value"),
                ("attn_out", "attention.output.dense"),
                ("z", "attention.output.dense.input"),
                ("resid_mid", "attention.output.LayerNorm"),
                ("mlp_pre", "intermediate.dense"),
                ("mlp_act", "intermediate"),
                ("mlp_act", "output.dense.input"),
                ("mlp_out", "output.dense"),
            ],
        ),
        "distilbert" => (
            "distilbert.transformer.layer",
            vec![
                ("q", "attention.q_lin"),
                ("k", "attention.k_lin"),
                ("v", "attention.v_lin"),
                ("attn_out", "attention"),
                ("attn_out", "attention.out_lin"),
                ("z", "attention.out_lin.input"),
                ("resid_mid", "sa_layer_norm"),
                ("mlp_pre", "ffn.lin1"),
                ("mlp_act", "ffn.activation"),
                ("mlp_act", "ffn.lin2.input"),
                ("mlp_out", "ffn"),
                ("mlp_out", "ffn.lin2"),
            ],
        ),
        _ => {
            let mut list = vec![
                ("q", "self_attn.q_proj"),
                ("k", "self_attn.k_proj"),
                ("v", "self_attn.v_proj"),
                ("z", "self_attn.o_proj.input"),
                ("mlp_pre", "mlp.gate_proj"),
                ("mlp_act", "mlp.down_proj.input"),
            ];
            // Norms stand between these projections and the residual stream of Gemma 2.
            list.extend(match family {
                "gemma2" => [("attn_out", "post_attention_layernorm"), ("mlp_out", "post_feedforward_layernorm")].to_vec(),
                _ => [
                    ("attn_out", "self_attn"),
                    ("attn_out", "self_attn.o_proj"),
                    ("mlp_out", "mlp"),
                    ("mlp_out", "mlp.down_proj"),
                ]
                .to_vec(),
            });
            ("model.layers", list)
        }
    }
}

fn head(family: &str) -> Option<&'static str> {
    match family {
        "gpt_neox" => Some("embed_out"),
        "bert" => Some("cls.predictions.decoder"),
        "distilbert" => Some("vocab_projector"),
        // Its logits are capped behind the module.
        "gemma2" => None,
        _ => Some("lm_head"),
    }
}

/// TransformerLens' name of ours, behind `blocks.L.`.
fn hook(ours: &str) -> String {
    match ours {
        "mlp_pre" => "mlp.hook_pre".into(),
        "mlp_act" => "mlp.hook_post".into(),
        "q" | "k" | "v" | "z" | "pattern" => format!("attn.hook_{ours}"),
        _ => format!("hook_{ours}"),
    }
}

/// The tensors of a capture of `sites`, with more flags.
fn capture(case: &Case, sites: &str, flags: &[&str]) -> crate::command::Tensors {
    let args = case.capture_args(&[flags, &["--force"]].concat());
    let args: Vec<String> = args.into_iter().map(|a| if a == "logits" { sites.into() } else { a }).collect();
    let outcome = run(&args);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""), "{args:?}");
    read(&case.path("F"))
}

#[test]
fn module_paths_hooks_and_our_names_are_the_same_tensors() {
    for family in FAMILIES {
        let case = case(family);
        let (block, list) = modules(family);
        let mut names: Vec<(String, String, String)> = list
            .iter()
            .map(|(ours, path)| (format!("{ours}.1"), format!("blocks.1.{}", hook(ours)), format!("{block}.1.{path}")))
            .collect();
        names.push(("resid_post.1".into(), "blocks.1.hook_resid_post".into(), format!("{block}.1")));
        names.extend(head(family).map(|head| ("logits".to_string(), "logits".to_string(), head.to_string())));
        let all = |kind: fn(&(String, String, String)) -> &String| {
            let mut sites: Vec<&str> = names.iter().map(|n| kind(n).as_str()).collect();
            sites.sort_unstable();
            sites.dedup();
            capture(&case, &sites.join(","), &[])
        };
        let (ours, hooks, paths) = (all(|n| &n.0), all(|n| &n.1), all(|n| &n.2));
        assert!(ours == hooks && ours == paths, "{family}");
        assert!(names.iter().all(|(name, ..)| ours.contains_key(name)) && ours.len() >= 8, "{family}: {:?}", ours.keys());
        // One by one, as a table may be right as a whole and wrong in pairs.
        let model = Model::load(case.path("MODEL").to_str().unwrap(), DType::F32).unwrap().model;
        for (name, hook, path) in &names {
            for alias in [hook, path] {
                let places = model.places("--sites", std::slice::from_ref(alias), &[0]).unwrap();
                assert_eq!(places.iter().map(|p| p.name()).collect::<Vec<_>>(), [name.as_str()], "{family}, {alias}");
            }
        }
    }
}

#[test]
fn a_path_that_is_no_site_is_refused_with_those_that_are() {
    for family in FAMILIES {
        let case = case(family);
        let (block, list) = modules(family);
        let mut bad = vec![
            format!("{block}.1.nothing"),
            format!("{block}.x.{}", list[0].1),
            format!("{block}.-1.{}", list[0].1),
            format!("{block}.1.{}.weight", list[0].1),
            format!("{block}.1.{}.input.input", list[0].1),
            format!("{block}.99999999999999999999.{}", list[0].1),
            format!("x.{block}.1.{}", list[0].1),
            format!("{block}.{}", list[0].1),
            block.to_string(),
        ];
        bad.extend(
            match family {
                "gpt2" => vec!["transformer.h.1.attn.c_attn", "transformer.h.1.ln_1", "transformer.wte", "transformer.ln_f"],
                "gpt_neox" => vec!["gpt_neox.layers.1.attention.query_key_value", "gpt_neox.final_layer_norm"],
                "gemma2" => vec!["lm_head", "model.layers.1.mlp", "model.layers.1.self_attn.o_proj"],
                "bert" => {
                    vec!["bert.encoder.layer.1.attention", "bert.encoder.layer.1.output", "cls.predictions.transform.dense"]
                }
                "llama" => vec!["model.layers.1.mlp.up_proj", "model.layers.1.mlp.act_fn", "model.norm"],
                _ => vec![],
            }
            .into_iter()
            .map(String::from),
        );
        for name in bad {
            let args: Vec<String> =
                case.capture_args(&[]).into_iter().map(|a| if a == "logits" { name.clone() } else { a }).collect();
            let sentence = failure(&args);
            assert!(sentence.starts_with(&format!("--sites: found {name}; expected one of resid_pre, resid_mid,")), "{sentence}");
            for (_, path) in &list {
                assert!(sentence.contains(&format!("{block}.L.{path}")), "{path} is not in: {sentence}");
            }
            assert!(!case.path("F").exists());
        }
        let beyond = format!("{block}.2.{}", list[0].1);
        let args: Vec<String> =
            case.capture_args(&[]).into_iter().map(|a| if a == "logits" { beyond.clone() } else { a }).collect();
        assert_eq!(failure(&args), format!("--sites: found {beyond}; expected layers below 2, as many as the model has"));
    }
}

#[test]
fn layers_choose_among_names_without_one() {
    for family in FAMILIES {
        let case = case(family);
        let (block, list) = modules(family);
        let (ours, path) = list[list.len() - 1];
        let sites = format!("{block}.1.{path},resid_pre");
        let names = |flags: &[&str]| capture(&case, &sites, flags).into_keys().collect::<Vec<_>>();
        let sorted = |names: &[&str]| {
            let mut names: Vec<String> =
                names.iter().map(|n| n.to_string()).chain([format!("{ours}.1"), "tokens".into()]).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(names(&[]), sorted(&["resid_pre.0", "resid_pre.1"]), "{family}");
        assert_eq!(names(&["--layers", "0"]), sorted(&["resid_pre.0"]), "{family}");
        // L stands for the layers that are chosen.
        let sites = format!("{block}.L.{path}");
        let all: Vec<String> = capture(&case, &sites, &[]).into_keys().collect();
        assert_eq!(all, [format!("{ours}.0"), format!("{ours}.1"), "tokens".into()], "{family}");
        let one: Vec<String> = capture(&case, &sites, &["--layers", "1"]).into_keys().collect();
        assert_eq!(one, [format!("{ours}.1"), "tokens".into()], "{family}");
    }
}
