//! The PTX kernels and their fragments: the files of `kernels/`.

use super::registry::Kernel;
use super::sources;
use super::{
    activation, affine, attention, attention_tiles, chunk, column_sums, count, derivatives, edge_sums, edges, embed, gather,
    gram, linear, loss, norm, norm_terms, peaks, probe, probes, product, rope, softmax, trie_match,
};

/// Every PTX kernel, in the order of `mechgraph kernels --list`.
pub static KERNELS: &[&Kernel] = &[
    &gram::CENTRE_F64,
    &gram::CENTRE_F32,
    &gram::GRAM_F64,
    &gram::GRAM_F32,
    &gram::FOLD,
    &count::COUNT,
    &loss::ROWS,
    &loss::FOLD,
    &norm::NORM,
    &norm::SLOPE,
    &norm::HALF,
    &peaks::PEAKS,
    &trie_match::TRIE_MATCH,
    &probe::PEAK_F64,
    &probe::PEAK_F32,
    &probe::ROUNDING,
    &activation::ACTIVATION,
    &activation::TANGENT,
    &linear::LINEAR_F32,
    &linear::LINEAR_F64,
    &edges::EDGES,
    &edges::RANK_ONE,
    &derivatives::DERIVATIVES,
    &column_sums::COLUMN_SUMS,
    &norm_terms::TERMS,
    &norm_terms::WEIGH,
    &product::PRODUCT,
    &affine::AFFINE,
    &chunk::CHUNK,
    &chunk::READOUT,
    &edge_sums::COTANGENTS,
    &edge_sums::TANGENTS,
    &embed::EMBED,
    &gather::GATHER,
    &gather::SCATTER,
    &probes::ROWS,
    &probes::SUMS,
    &rope::ROPE,
    &softmax::SOFTMAX,
    &softmax::TANGENT,
    &attention::FORWARD,
    &attention::PATTERN,
    &attention::TANGENT,
    &attention::QUERIES,
    &attention::KEYS,
    &attention_tiles::CENTRE,
    &attention_tiles::OMEGA,
    &attention_tiles::CONTRACT,
    &attention_tiles::DIRECTIONS,
    &attention_tiles::VALUES,
    &attention_tiles::SQUARES,
];

macro_rules! fragments {
    ($($name:literal,)*) => {
        /// The fragments' files and texts.
        const FRAGMENTS: &[(&str, &str)] =
            &[$((concat!("frag/", $name, ".ptxh"), include_str!(concat!("../../kernels/frag/", $name, ".ptxh"))),)*];
    };
}
fragments! {
    "across_begin",
    "across_copy",
    "act_gelu",
    "act_gelu_f64",
    "act_gelu_new",
    "act_gelu_new_f64",
    "act_identity",
    "act_identity_f64",
    "act_relu",
    "act_relu_f64",
    "act_sigmoid",
    "act_sigmoid_f64",
    "act_silu",
    "act_silu_f64",
    "act_tanh",
    "act_tanh_f64",
    "along_begin",
    "along_copy",
    "attention_active",
    "attention_add",
    "attention_at",
    "attention_begin",
    "attention_bounds",
    "attention_copy",
    "attention_dot",
    "attention_follow",
    "attention_follow_mean",
    "attention_key",
    "attention_mean",
    "attention_next_segment",
    "attention_node_weight",
    "attention_note",
    "attention_power",
    "attention_query",
    "attention_rank",
    "attention_row",
    "attention_scores",
    "attention_segment",
    "attention_sequence",
    "attention_shown",
    "attention_store",
    "attention_weights",
    "attention_zero",
    "centre",
    "chunk_basis",
    "chunk_features",
    "chunk_mask",
    "chunk_rows",
    "columns_add",
    "columns_begin",
    "cta_fold",
    "edges_begin",
    "edges_copy",
    "edges_row",
    "edges_write",
    "exp",
    "exp_f64",
    "gram_begin",
    "gram_copy",
    "gram_next",
    "lanes_4x8",
    "lanes_8x4",
    "linear_add",
    "linear_at",
    "linear_begin",
    "linear_bias",
    "linear_copy",
    "linear_end",
    "linear_next",
    "linear_place",
    "linear_store",
    "linear_tangent",
    "linear_w_nn",
    "linear_w_nt",
    "linear_write",
    "linear_write_singles",
    "linear_write_vectors",
    "log_f64",
    "logistic",
    "logistic_f64",
    "loss_floor",
    "loss_floor_f64",
    "mix",
    "norm_begin",
    "norm_dot",
    "norm_dot_none",
    "norm_factors_dv",
    "norm_factors_none",
    "norm_factors_v",
    "norm_factors_v_dv",
    "norm_first_cotangent",
    "norm_first_tangent",
    "norm_gain",
    "norm_mean",
    "norm_mean_rms",
    "norm_out_c",
    "norm_out_cotangent",
    "norm_out_mean",
    "norm_out_scaled",
    "norm_out_tangent",
    "norm_row",
    "norm_scale",
    "norm_shift",
    "norm_shift_rms",
    "norm_slope_cotangent",
    "norm_slope_g",
    "norm_slope_tangent",
    "probe_hash",
    "probe_key",
    "probe_params",
    "probe_row",
    "product_batch",
    "product_begin",
    "product_copy",
    "product_copy_one",
    "product_write",
    "reciprocal",
    "reciprocal_f64",
    "row_again",
    "row_columns",
    "row_load",
    "row_store",
    "sheet",
    "sheet_at",
    "shuffle_f32",
    "shuffle_f64",
    "splitmix",
    "triangle",
    "trie_child",
    "trie_value",
    "warp_fold",
    "warp_fold_f64",
    "warp_step_f64",
}

/// The text of an included fragment.
pub fn fragment(file: &str) -> Option<&'static str> {
    FRAGMENTS.iter().find(|(name, _)| *name == file).map(|(_, text)| sources::text(file, text))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::super::registry::Language;
    use super::*;

    /// Every expansion, with its kernel's name and configuration.
    fn expansions() -> impl Iterator<Item = (&'static Kernel, String, String)> {
        KERNELS.iter().flat_map(|kernel| {
            (kernel.configurations)().into_iter().map(|c| (*kernel, c.name.clone(), kernel.expand(&c).unwrap()))
        })
    }

    #[test]
    fn every_expansion_is_one_entry_of_its_files_name_without_template_marks() {
        for (kernel, configuration, text) in expansions() {
            let name = format!("{}@{configuration}", kernel.name);
            let Language::Ptx { least: (major, minor) } = kernel.language else { panic!("{name} is no PTX") };
            assert!(text.contains(&format!("\n.target sm_{major}{minor}\n")), "{name}");
            assert!(text.contains("\n.version 7.0\n.target sm_80\n.address_size 64\n"), "{name}");
            assert_eq!(text.matches(".visible .entry ").count(), 1, "{name}");
            assert!(text.contains(&format!(".visible .entry {}(\n", kernel.name)), "{name}");
            assert!(!["{{", "}}", "@for", "@}", "@include"].iter().any(|mark| text.contains(mark)), "{name}");
        }
    }

    #[test]
    fn every_field_of_a_parameter_block_is_loaded_from_its_place_as_its_type() {
        for (kernel, configuration, text) in expansions() {
            let name = format!("{}@{configuration}", kernel.name);
            let mut loads = BTreeSet::new();
            for line in text.lines().map(str::trim).filter(|line| line.starts_with("ld.param.")) {
                let kind = line["ld.param.".len()..].split_whitespace().next().unwrap();
                let offset = line.split_once("[params+").and_then(|(_, rest)| rest.split_once(']')).unwrap().0;
                loads.insert((offset.parse::<usize>().unwrap(), kind));
            }
            let fields: BTreeSet<(usize, &str)> = kernel.params.iter().map(|f| (f.offset, f.kind)).collect();
            assert_eq!(loads, fields, "{name}");
        }
    }

    #[test]
    fn configurations_have_names_of_their_own() {
        for kernel in KERNELS {
            let names: Vec<String> = (kernel.configurations)().into_iter().map(|c| c.name).collect();
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{}", kernel.name);
        }
    }

    #[test]
    fn the_registry_and_the_folder_of_kernels_agree() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        let files = |folder: &Path, ending: &str| -> BTreeSet<String> {
            let names = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
            names.filter_map(|name| name.strip_suffix(ending).map(String::from)).collect()
        };
        let registered: BTreeSet<String> = KERNELS.iter().map(|k| k.name.into()).collect();
        assert_eq!(files(&folder, ".ptx"), registered);
        assert_eq!(registered.len(), KERNELS.len());

        let fragments: BTreeSet<String> =
            FRAGMENTS.iter().map(|(name, _)| name["frag/".len()..].trim_end_matches(".ptxh").into()).collect();
        assert_eq!(files(&folder.join("frag"), ".ptxh"), fragments);
        for kernel in KERNELS {
            let path = folder.join(format!("{}.ptx", kernel.name));
            assert_eq!(std::fs::read_to_string(path).unwrap(), kernel.source, "{}", kernel.name);
        }
    }

    #[test]
    fn every_fragment_is_used() {
        let used = RefCell::new(BTreeSet::new());
        for kernel in KERNELS {
            for configuration in (kernel.configurations)() {
                let note = |file: &str| {
                    used.borrow_mut().insert(file.to_string());
                    fragment(file)
                };
                kernel.expand_with(&configuration, &note).unwrap();
            }
        }
        let all: BTreeSet<String> = FRAGMENTS.iter().map(|(name, _)| (*name).into()).collect();
        assert_eq!(used.into_inner(), all);
    }

    /// The registers that a text declares inside a scope of its own.
    fn scoped(text: &str) -> BTreeSet<&str> {
        let (mut depth, mut names) = (0, BTreeSet::new());
        for line in text.lines().map(str::trim) {
            match line {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ if depth > 0 && line.starts_with(".reg") => {
                    let list = line.split_once('%').unwrap().1.split(';').next().unwrap();
                    names.extend(list.split(',').map(|name| name.trim().trim_start_matches('%').split('<').next().unwrap()));
                }
                _ => {}
            }
        }
        names
    }

    /// Looks at every include of `text`, which is handed `words`; `within` are the fragments around it.
    fn look_for_hidden_registers(text: &str, words: &[(String, String)], within: &[&str]) {
        for line in text.lines().filter_map(|line| line.trim().strip_prefix("@include ")) {
            let (file, handed) = line.trim_start_matches('"').split_once('"').unwrap();
            let resolve = |value: &str| words.iter().fold(value.to_string(), |v, (n, w)| v.replace(&format!("{{{{{n}}}}}"), w));
            let handed: Vec<(String, String)> = handed
                .split_whitespace()
                .map(|word| word.split_once('=').map(|(n, v)| (n.to_string(), resolve(v))).unwrap())
                .collect();
            // A constant in the name stands for any of the files that fit.
            let (head, tail) =
                file.split_once("{{").map_or((file, file), |(head, rest)| (head, rest.split_once("}}").unwrap().1));
            let fits = |name: &str| name.starts_with(head) && name.ends_with(tail) && !within.contains(&name);
            for (name, inner) in FRAGMENTS.iter().filter(|(name, _)| fits(name)) {
                let own = scoped(inner);
                for (word, value) in &handed {
                    let register = value.trim_start_matches('%');
                    assert!(!own.contains(register), "{name} declares {value}, which it is handed as {word}");
                }
                look_for_hidden_registers(inner, &handed, &[within, &[*name]].concat());
            }
        }
    }

    #[test]
    fn no_fragment_declares_a_register_that_it_is_handed() {
        for kernel in KERNELS {
            look_for_hidden_registers(kernel.source, &[], &[]);
        }
    }
}
