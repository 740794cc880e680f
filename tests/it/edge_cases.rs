//! Models and data at the edge of what makes sense: they work, with finite numbers and C+ C = I, or
//! fail with one sentence.

use mechgraph::model::{ActFn, MlpConfig, Model, Norm, TransformerConfig};

use crate::command::{Case, Tensors, inputs, mlp, mlp_config, reals, tokens, transformer, transformer_config};

const NORMS: [Norm; 3] = [Norm::None, Norm::LnPre, Norm::Ln];

/// Runs `lib` in both precisions and by both roads.
fn works(model: &Model, data: &Tensors) {
    for flags in [&[][..], &["--dtype", "f32"], &["--method", "jvp"]] {
        Case::new(model, data).lib_works(flags);
    }
}

/// Runs a transformer of every norm, that reads all positions or the last.
fn transformers_work(config: &TransformerConfig, data: &Tensors) {
    for norm in NORMS {
        for read_last in [false, true] {
            works(&transformer(TransformerConfig { norm, read_last, ..config.clone() }), data);
        }
    }
}

#[test]
fn a_single_sample() {
    transformers_work(&transformer_config(), &tokens(&[1, 5], |i| i));
    works(&mlp(mlp_config(ActFn::Gelu)), &inputs(&[1, 4], |i| i as f64 - 1.5));
}

#[test]
fn a_single_token() {
    transformers_work(&transformer_config(), &tokens(&[1, 1], |_| 7));
}

#[test]
fn one_position_under_attention() {
    transformers_work(&transformer_config(), &tokens(&[9, 1], |i| i));
}

#[test]
fn more_features_than_rows() {
    let config = TransformerConfig { d_model: 20, d_mlp: 31, ..transformer_config() };
    transformers_work(&config, &tokens(&[2, 3], |i| 3 * i % 11));
    works(&mlp(MlpConfig { hidden_sizes: vec![40, 30], ..mlp_config(ActFn::Gelu) }), &inputs(&[3, 4], |i| (i as f64).cos()));
}

#[test]
fn data_without_variance() {
    transformers_work(&transformer_config(), &tokens(&[6, 4], |_| 3));
    works(&mlp(mlp_config(ActFn::Relu)), &inputs(&[8, 4], |i| [0.3, -1.0, 2.0, 0.1][i % 4]));
    works(&mlp(mlp_config(ActFn::Relu)), &inputs(&[8, 4], |_| 0.0));
}

#[test]
fn tokens_that_never_occur() {
    let config = TransformerConfig { d_vocab: 1000, ..transformer_config() };
    transformers_work(&config, &tokens(&[6, 4], |i| [0, 999][i % 2]));
}

#[test]
fn the_narrowest_models() {
    let narrow = TransformerConfig { d_mlp: 1, n_heads: 1, d_head: 1, ..transformer_config() };
    transformers_work(&narrow, &tokens(&[6, 5], |i| (i * i) % 11));
    for d_model in [1, 2] {
        let config = TransformerConfig { d_model, d_vocab: 2, d_vocab_out: 2, n_ctx: 3, ..narrow.clone() };
        works(&transformer(TransformerConfig { norm: Norm::None, ..config.clone() }), &tokens(&[5, 3], |i| i * i % 2));
    }
    works(
        &mlp(MlpConfig { input_size: 1, hidden_sizes: vec![1], output_size: 1, ..mlp_config(ActFn::Gelu) }),
        &inputs(&[5, 1], |i| i as f64),
    );
    works(&mlp(MlpConfig { hidden_sizes: vec![], ..mlp_config(ActFn::Relu) }), &inputs(&[5, 4], |i| (i as f64).sin()));
    works(
        &mlp(MlpConfig { hidden_sizes: vec![2], output_size: 9, ..mlp_config(ActFn::Silu) }),
        &inputs(&[600, 4], |i| (i as f64).sin()),
    );
}

#[test]
fn a_norm_over_one_or_two_values() {
    // A norm of width 1 gives 0 and one of width 2 a sign: hardly anything varies behind them.
    for d_model in [1, 2] {
        let config = TransformerConfig { d_model, norm: Norm::LnPre, ..transformer_config() };
        works(&transformer(config), &tokens(&[6, 5], |i| (i * i) % 11));
    }
}

#[test]
fn dead_neurons() {
    // Behind these biases no neuron ever fires: the output is a constant.
    let case = Case::mlp();
    case.edit_weights(|t| drop(t.insert("layers.0.b".into(), reals(&[5], |_| -100.0))));
    let graph = case.lib_works(&[]);
    assert_eq!(graph["layers.0.C"].0[1], 1, "only the constant matters");
    let config = TransformerConfig { act: ActFn::Relu, norm: Norm::None, ..transformer_config() };
    let case = Case::new(&transformer(config), &tokens(&[7, 4], |i| (i * i) % 11));
    case.edit_weights(|t| drop(t.insert("blocks.0.mlp.b_in".into(), reals(&[7], |_| -100.0))));
    case.lib_works(&["--node-layers", "ln1.0,mlp_in.0,mlp_act.0,mlp_out.0,unembed"]);
}

#[test]
fn models_that_compute_nothing() {
    for norm in [Norm::None, Norm::LnPre] {
        let case = Case::new(&transformer(TransformerConfig { norm, ..transformer_config() }), &tokens(&[3, 3], |i| i));
        case.edit_weights(|t| t.values_mut().for_each(|(_, _, raw)| raw.fill(0)));
        for flags in [&[][..], &["--edges", "functional"], &["--method", "jvp"]] {
            let sentence = case.lib_fails(flags);
            assert!(
                sentence.starts_with("node layer unembed: no direction above the threshold; expected at least one: "),
                "{sentence}"
            );
        }
        // Without Jacobians the layers themselves are all there is to see.
        case.lib_works(&["--basis", "pca"]);
    }
    let case = Case::mlp();
    case.edit_weights(|t| t.values_mut().for_each(|(_, _, raw)| raw.fill(0)));
    assert!(case.lib_fails(&[]).starts_with("node layer layers.2: no direction above the threshold"));
}

#[test]
fn thresholds_that_keep_all_or_nothing() {
    let case = Case::transformer();
    let graph = case.lib_works(&["--threshold", "1e300"]);
    assert_eq!(graph["ln1.0.C"].0[1], 1, "the constant stays, whatever the threshold");
    assert!(case.lib_fails_again(&["--threshold", "1e300", "--no-center"]).starts_with("node layer unembed: no direction above"));
}
