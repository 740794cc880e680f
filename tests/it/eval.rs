//! `mechgraph eval`: loss and accuracy equal those of a plain forward pass.

use mechgraph::data::{DataSet, Labels, Samples};
use mechgraph::device::DType;
use mechgraph::model::evaluate::{Score, evaluate};
use mechgraph::model::{ActFn, MlpConfig, Model, TransformerConfig, random_mlp};

use crate::naive::{self, Numbers, configs, forward, forward_mlp, random, sequences, tokens, with_runner};

/// The score of rows of logits with their labels, by the definition.
fn score(rows: &[(&[f64], u32)]) -> Score {
    let (mut loss, mut correct) = (0.0, 0);
    for (logits, label) in rows {
        loss += logits.iter().map(|x| x.exp()).sum::<f64>().ln() - logits[*label as usize];
        correct += usize::from(logits.iter().all(|x| *x <= logits[*label as usize]));
    }
    loss /= rows.len() as f64;
    Score { loss, perplexity: loss.exp(), accuracy: correct as f64 / rows.len() as f64, labelled: rows.len() }
}

fn check(model: &Model, data: &DataSet, want: &Score, bar: f64) {
    for threads in [1, 3] {
        with_runner(threads, None, |runner| {
            let got = evaluate(model, data.clone(), runner).unwrap();
            assert!((got.loss / want.loss - 1.0).abs() <= bar, "{got:?}, not {want:?}");
            assert!((got.perplexity / want.perplexity - 1.0).abs() <= 10.0 * bar, "{got:?}, not {want:?}");
            assert_eq!((got.accuracy, got.labelled), (want.accuracy, want.labelled));
        });
    }
}

#[test]
fn next_tokens_labels_and_labels_of_samples() {
    let (n, t) = (150, 6);
    for (dtype, bar) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
        for i in [3, 20, 37] {
            let config = TransformerConfig { read_last: false, d_vocab_out: 11, ..configs()[i].clone() };
            let m = random(&config, dtype, 2);
            let mut data = tokens(config.d_vocab, n, t, 6);
            let ids: Vec<Vec<u32>> = sequences(&data).into_iter().map(|s| s.to_vec()).collect();
            let logits: Vec<Vec<f64>> = ids.iter().map(|s| forward(&m, s)["logits"].clone()).collect();
            let at = |s: usize, p: usize| &logits[s][p * 11..(p + 1) * 11];
            let model = Model::Transformer(m.clone());

            let next: Vec<_> =
                (0..n).flat_map(|s| (0..t - 1).map(move |p| (s, p))).map(|(s, p)| (at(s, p), ids[s][p + 1])).collect();
            check(&model, &data, &score(&next), bar);

            let mut numbers = Numbers::new(5);
            let mut labels = |n: usize| (0..n).map(|_| (numbers.bits() % 11) as u32).collect::<Vec<_>>();
            let (each, one) = (labels(n * t), labels(n));
            let rows: Vec<_> = (0..n * t).map(|j| (at(j / t, j % t), each[j])).collect();
            data.labels = Some(Labels { values: each.clone(), per_position: true });
            check(&model, &data, &score(&rows), bar);

            let rows: Vec<_> = (0..n).map(|s| (at(s, t - 1), one[s])).collect();
            data.labels = Some(Labels { values: one.clone(), per_position: false });
            check(&model, &data, &score(&rows), bar);
            let config = TransformerConfig { read_last: true, ..config };
            check(&Model::Transformer(mechgraph::model::Transformer { config, ..m }), &data, &score(&rows), bar);
        }
    }
}

#[test]
fn classes_of_an_mlp() {
    let config = MlpConfig { input_size: 6, hidden_sizes: vec![9], output_size: 4, act: ActFn::Tanh, bias: true };
    let m = random_mlp(config, DType::F64, 3).unwrap();
    let (n, mut numbers) = (700, Numbers::new(1));
    let x = numbers.many(n * 6);
    let labels: Vec<u32> = (0..n).map(|_| (numbers.bits() % 4) as u32).collect();
    let logits: Vec<Vec<f64>> = x.chunks(6).map(|x| forward_mlp(&m, x)["logits"].clone()).collect();
    let rows: Vec<_> = logits.iter().zip(&labels).map(|(l, y)| (&l[..], *y)).collect();
    let data = DataSet {
        samples: Samples::Inputs { x: x.clone(), n, width: 6 },
        labels: Some(Labels { values: labels.clone(), per_position: false }),
        mask: None,
        text: None,
        name: "x".into(),
        sha256: String::new(),
    };
    check(&Model::Mlp(m), &data, &score(&rows), 1e-12);
}

#[test]
fn the_demo_has_learnt_its_task() {
    let model = Model::load("demo:modadd", DType::F32).unwrap().model;
    let data = mechgraph::data::load("demo:modadd#test", &model).unwrap();
    with_runner(2, None, |runner| {
        let got = evaluate(&model, data, runner).unwrap();
        assert_eq!((got.accuracy, got.labelled), (1.0, 8939));
        assert!(got.loss > 0.0 && got.loss < 1e-3, "{got:?}");
    });
}

#[test]
fn overflow_is_refused() {
    let config = naive::configs()[0].clone();
    let mut m = random(&TransformerConfig { read_last: false, d_vocab_out: 11, ..config }, DType::F32, 1);
    let huge = m.w_u.to_f64().iter().map(|x| x * 3e38).collect();
    m.w_u = mechgraph::device::Tensor::from_f64(DType::F32, m.w_u.rows, m.w_u.cols, huge);
    let data = tokens(11, 3, 4, 1);
    with_runner(1, None, |runner| {
        let e = evaluate(&Model::Transformer(m), data, runner).unwrap_err().to_string();
        assert!(e.contains("expected a finite number"), "{e}");
    });
}
