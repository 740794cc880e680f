//! Batches of sequences of different lengths, packed behind each other: every row is what its sequence has
//! on its own, whichever rows are read out and however batches are filled up; batches that do not fit are
//! refused.

use std::collections::{BTreeMap, BTreeSet};

use mechgraph::data::buckets::{Shape, buckets};
use mechgraph::data::packed::Packed;
use mechgraph::data::session::Session;
use mechgraph::device::{Builder, Cpu, DType, Device, View};
use mechgraph::model::lm::forward::{Axes, Inputs, Tap, forward};
use mechgraph::model::site::Place;
use mechgraph::model::{Lm, Model, TransformerConfig};

use crate::families::FIXTURES;
use crate::naive::{self, Numbers, configs, max_error, random, shared};

/// The longest sequence.
const LONGEST: usize = 40;

/// Relative to the largest value: products round by the number of rows they are made with. Scores of
/// models without norms are large, and with them what rounding does to a softmax.
fn bar(name: &str, dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-13,
        DType::F32 if name.contains("nonorm") => 1e-4,
        DType::F32 => 2e-6,
    }
}

/// Whether products give the same bits for any number of rows above one.
fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

fn device() -> Device {
    Device::Cpu(Cpu::new(1).unwrap())
}

/// The model of every fixture and a random one of TransformerLens' layout, by name.
fn models(dtype: DType) -> Vec<(String, Model)> {
    let config = TransformerConfig { n_ctx: LONGEST, n_layers: 3, read_last: false, ..configs()[36].clone() };
    let mut models = vec![("random".to_string(), Model::Transformer(random(&config, dtype, 5)))];
    if let Some(shared) = shared() {
        models.extend(FIXTURES.iter().map(|(folder, _)| {
            let path = shared.join("fixtures").join(folder);
            (folder.to_string(), Model::load(path.to_str().unwrap(), dtype).unwrap().model)
        }));
    }
    models
}

/// A sequence of every length from 1 to `longest`, in no order.
fn prompts(d_vocab: usize, longest: usize, seed: u64) -> Vec<Vec<u32>> {
    let mut numbers = Numbers::new(seed);
    let mut prompt = |i: usize| (0..1 + i * 7 % longest).map(|_| (numbers.bits() % d_vocab as u64) as u32).collect();
    let prompts: Vec<Vec<u32>> = (0..longest).map(&mut prompt).collect();
    let lengths: BTreeSet<usize> = prompts.iter().map(Vec::len).collect();
    assert!(lengths.len() == longest || !longest.is_multiple_of(5), "{lengths:?}");
    prompts
}

fn places(model: &Model, sites: &[&str], layers: &[usize]) -> Vec<Place> {
    model.places("--sites", &sites.iter().map(|s| s.to_string()).collect::<Vec<_>>(), layers).unwrap()
}

/// A program of `rows` rows, and where its values are.
struct Ready {
    session: Session,
    taps: BTreeMap<Place, Tap>,
}

fn ready(lm: &Lm, rows: usize, masked: bool, queries: Option<(usize, usize)>, places: &[Place]) -> Ready {
    let mut b = Builder::new(lm.dtype);
    let longest = LONGEST.min(lm.n_ctx);
    let inputs = Inputs::new(&mut b, rows, longest, masked, queries);
    let taps = forward(&mut b, lm, inputs, places).unwrap();
    Ready { session: Session::new(&device(), b.finish(), inputs).unwrap(), taps }
}

impl Ready {
    fn run(&mut self, batch: &Packed) -> BTreeMap<Place, Vec<f64>> {
        self.session.run(batch).unwrap();
        self.taps.iter().map(|(place, tap)| (*place, self.session.read(&tap.view).unwrap())).collect()
    }
    fn width(&self, place: &Place) -> usize {
        self.taps[place].view.cols
    }
}

/// The values of each sequence in a batch of its own.
fn alone(lm: &Lm, prompts: &[Vec<u32>], masks: Option<&[Vec<u32>]>, places: &[Place]) -> Vec<BTreeMap<Place, Vec<f64>>> {
    let each = prompts.iter().enumerate().map(|(i, prompt)| {
        let mut batch = Packed::new([&prompt[..]]);
        masks.iter().for_each(|masks| batch.hide(&masks[i]));
        ready(lm, prompt.len(), masks.is_some(), None, places).run(&batch)
    });
    each.collect()
}

const SITES: [&str; 8] = ["resid_pre", "q", "k", "v", "z", "resid_mid", "mlp_act", "resid_post"];

#[test]
fn rows_of_a_ragged_batch_are_those_of_each_sequence_alone() {
    for dtype in [DType::F64, DType::F32] {
        for (name, model) in models(dtype) {
            let lm = model.lm().unwrap();
            let prompts = prompts(lm.d_vocab, LONGEST.min(lm.n_ctx), 3);
            let layers: Vec<usize> = (0..lm.blocks.len()).collect();
            let sites = [&SITES[..], &["logits"]].concat();
            let places = places(&model, &sites, &layers);
            let own = alone(&lm, &prompts, None, &places);
            let mut batch = Packed::new(prompts.iter().map(Vec::as_slice));
            let tight = ready(&lm, batch.rows(), false, None, &places).run(&batch);
            let ragged = batch.clone();
            batch.fill_up(batch.rows() + 13, 0);
            let mut filled = ready(&lm, batch.rows(), false, None, &places);
            let loose = filled.run(&batch);
            for place in &places {
                let (width, bar) = (filled.width(place), bar(&name, dtype));
                let want: Vec<f64> = own.iter().flat_map(|values| values[place].clone()).collect();
                let error = max_error(&tight[place], &want);
                if has_avx2() {
                    // A single row is summed in another way.
                    for (i, prompt) in prompts.iter().enumerate().filter(|(_, p)| p.len() > 1) {
                        let (rows, own) = (ragged.range(i), &own[i][place]);
                        let got = &tight[place][rows.start * width..rows.end * width];
                        assert!(got == own, "{name}, {}, {}: {} tokens", place.name(), dtype.name(), prompt.len());
                    }
                }
                assert!(error <= bar, "{name}, {}, {}: {error:e}", place.name(), dtype.name());
                let error = max_error(&loose[place][..want.len()], &want);
                assert!(error <= bar && loose[place].len() == want.len() + 13 * width, "{name}, {}: {error:e}", place.name());
            }
        }
    }
}

/// Which rows of a sequence of a length are read out.
type Reads = fn(usize) -> Vec<usize>;

/// The same with a name.
const READS: [(&str, Reads); 3] = [
    ("the last one", |n| vec![n - 1]),
    ("none, one or several", |n| (0..n).filter(|i| n % 3 > 0 && (i % 5 == 2 || i + 1 == n)).collect()),
    ("all", |n| (0..n).collect()),
];

#[test]
fn rows_that_are_read_out_are_the_same_at_any_layer() {
    for (dtype, step) in [(DType::F64, 1), (DType::F32, 4)] {
        for (name, model) in models(dtype).into_iter().step_by(step) {
            let lm = model.lm().unwrap();
            let prompts = prompts(lm.d_vocab, LONGEST.min(lm.n_ctx), 4);
            let all = Packed::new(prompts.iter().map(Vec::as_slice));
            for layer in 0..lm.blocks.len() {
                let is_last = layer + 1 == lm.blocks.len();
                let sites = [&SITES[..], if is_last { &["logits"] } else { &[] }].concat();
                let places = places(&model, &sites, &[layer]);
                let whole = ready(&lm, all.rows(), false, None, &places).run(&all);
                for (what, reads) in READS {
                    let of = |i: usize| reads(prompts[i].len()).into_iter().map(move |r| (i, r));
                    let rows: Vec<usize> = (0..prompts.len()).flat_map(of).map(|(i, r)| all.range(i).start + r).collect();
                    let mut batch = all.clone();
                    batch.read(&rows.iter().map(|&r| r as u32).collect::<Vec<_>>());
                    batch.fill_up(all.rows() + 3, rows.len() + 5);
                    let mut narrow = ready(&lm, batch.rows(), false, Some((layer, rows.len() + 5)), &places);
                    let got = narrow.run(&batch);
                    for place in &places {
                        let width = narrow.width(place);
                        // In front of the attention of the layer there are all rows.
                        let in_front = ["resid_pre", "q.", "k.", "v."].iter().any(|s| place.name().starts_with(s));
                        let row = |r: usize| whole[place][r * width..][..width].to_vec();
                        let want: Vec<f64> =
                            if in_front { whole[place].clone() } else { rows.iter().flat_map(|r| row(*r)).collect() };
                        let count = if in_front { batch.rows() } else { rows.len() + 5 };
                        assert_eq!(got[place].len(), count * width, "{name}, {what}, {}", place.name());
                        let error = max_error(&got[place][..want.len()], &want);
                        assert!(error <= bar(&name, dtype), "{name}, {what}, {}, {}: {error:e}", place.name(), dtype.name());
                    }
                }
            }
        }
    }
}

#[test]
fn hidden_tokens_of_packed_sequences_are_hidden_from_their_own() {
    for (name, model) in models(DType::F64).into_iter().filter(|(_, m)| m.is_encoder()) {
        let lm = model.lm().unwrap();
        let prompts = prompts(lm.d_vocab, LONGEST.min(lm.n_ctx), 5);
        let mask =
            |i: usize, n: usize| -> Vec<u32> { (0..n).map(|t| u32::from(t == 0 || !(i + 3 * t).is_multiple_of(4))).collect() };
        let masks: Vec<Vec<u32>> = prompts.iter().enumerate().map(|(i, p)| mask(i, p.len())).collect();
        let layers: Vec<usize> = (0..lm.blocks.len()).collect();
        let places = places(&model, &["z", "resid_post", "logits"], &layers);
        let own = alone(&lm, &prompts, Some(&masks), &places);
        let mut batch = Packed::new(prompts.iter().map(Vec::as_slice));
        batch.hide(&masks.concat());
        let rows = batch.rows();
        batch.fill_up(rows + 2, 0);
        let (got, open) = (ready(&lm, rows + 2, true, None, &places).run(&batch), alone(&lm, &prompts, None, &places));
        for place in &places {
            let of = |each: &[BTreeMap<Place, Vec<f64>>]| each.iter().flat_map(|v| v[place].clone()).collect::<Vec<_>>();
            let want = of(&own);
            let error = max_error(&got[place][..want.len()], &want);
            assert!(error <= bar(&name, DType::F64), "{name}, {}: {error:e}", place.name());
            assert!(max_error(&of(&open), &want) > 1e-3, "{name}, {}: nothing was hidden", place.name());
        }
    }
}

#[test]
fn patterns_of_packed_sequences_have_the_columns_of_the_longest() {
    let config = TransformerConfig { n_ctx: 9, n_layers: 2, read_last: false, ..configs()[20].clone() };
    let model = Model::Transformer(random(&config, DType::F64, 6));
    let lm = model.lm().unwrap();
    let prompts = prompts(lm.d_vocab, 9, 7);
    let places = places(&model, &["pattern"], &[1]);
    let batch = Packed::new(prompts.iter().map(Vec::as_slice));
    let mut all = ready(&lm, batch.rows(), false, None, &places);
    let got = all.run(&batch).remove(&places[0]).unwrap();
    let Axes::Pattern(heads) = all.taps[&places[0]].axes else { panic!("no pattern") };
    let Model::Transformer(m) = &model else { unreachable!() };
    for (i, prompt) in prompts.iter().enumerate() {
        let (n, want) = (prompt.len(), &naive::forward(m, prompt)["pattern.1"]);
        for (row, want) in (heads * batch.range(i).start..).zip(want.chunks(n)) {
            let row = &got[row * 9..][..9];
            assert!(row[..n].iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12) && row[n..].iter().all(|x| *x == 0.0));
        }
    }
}

/// Chosen neurons of one layer at the last token of many prompts, by few programs that go no further.
fn neurons(lm: &Lm, place: Place, prompts: &[Vec<u32>], columns: &[usize], rows: usize) -> (Vec<Vec<f64>>, usize) {
    let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
    let mut programs: BTreeMap<Shape, (Session, View)> = BTreeMap::new();
    let mut found = vec![Vec::new(); prompts.len()];
    for bucket in buckets(&lengths, rows) {
        let (session, view) = programs.entry(bucket.shape).or_insert_with(|| {
            let ready = ready(lm, bucket.shape.rows, false, Some((place.layer, bucket.shape.reads)), &[place]);
            (ready.session, ready.taps[&place].view)
        });
        session.run(&bucket.pack(|i| &prompts[i])).unwrap();
        let values = session.read_part(view, 0..bucket.sequences.len(), columns).unwrap();
        for (i, values) in bucket.sequences.iter().zip(values.chunks(columns.len())) {
            found[*i] = values.to_vec();
        }
    }
    (found, programs.len())
}

#[test]
fn neurons_of_many_prompts_come_from_few_programs() {
    for (name, model) in models(DType::F32).into_iter().filter(|(n, _)| ["random", "hf/phi", "hf/qwen3"].contains(&&**n)) {
        let lm = model.lm().unwrap();
        let prompts: Vec<Vec<u32>> = (0..12).flat_map(|seed| prompts(lm.d_vocab, LONGEST, seed)).collect();
        let place = places(&model, &["mlp_act"], &[1])[0];
        let columns = [lm.blocks[1].mlp.neurons() - 1, 0, 2];
        let (found, programs) = neurons(&lm, place, &prompts, &columns, 128);
        assert!((2..=8).contains(&programs), "{programs}");
        let own = alone(&lm, &prompts, None, &[place]);
        let width = lm.blocks[1].mlp.neurons();
        let last = |v: &BTreeMap<Place, Vec<f64>>| columns.map(|c| v[&place][v[&place].len() - width + c]);
        let want: Vec<f64> = own.iter().flat_map(last).collect();
        let error = max_error(&found.concat(), &want);
        assert!(error <= bar(&name, DType::F32), "{name}: {error:e}");
    }
}

#[test]
fn batches_that_do_not_fit_are_refused() {
    let config = TransformerConfig { n_ctx: 6, n_layers: 2, read_last: false, ..configs()[1].clone() };
    let model = Model::Transformer(random(&config, DType::F32, 1));
    let lm = model.lm().unwrap();
    let places = places(&model, &["mlp_act"], &[1]);
    let session = |masked, queries, longest| {
        let mut b = Builder::new(lm.dtype);
        let inputs = Inputs::new(&mut b, 6, longest, masked, queries);
        let taps = forward(&mut b, &lm, inputs, &places)?;
        Ok::<_, mechgraph::Error>((Session::new(&device(), b.finish(), inputs)?, taps[&places[0]].view))
    };
    let says = |batch: &Packed, masked, queries, part: &str| {
        let e = session(masked, queries, 5).unwrap().0.run(batch).unwrap_err().to_string();
        assert_eq!(e, format!("operation packing: found {part}"));
    };
    let batch = Packed::new([&[1, 2, 3][..], &[4, 5, 6]]);
    assert!(session(false, None, 5).unwrap().0.run(&batch).is_ok());
    says(&Packed::new([&[1u32, 2][..]]), false, None, "2 rows; expected 6 rows");
    says(&Packed::new([&[1u32; 6][..]]), false, None, "a sequence of 6 tokens; expected at most 5");
    says(&Packed::new([&[1, 2, 3][..], &[4, 11, 6]]), false, None, "token id 11; expected ids below 11");
    let mut hidden = batch.clone();
    hidden.hide(&[1; 6]);
    let sides = "a mask on one side only; expected a program with a mask for batches with one";
    says(&hidden, false, None, sides);
    says(&batch, true, None, sides);
    hidden.hide(&[1; 5]);
    says(&hidden, true, None, "a mask of 5 rows; expected 6 rows");
    let read = |rows: &[u32]| {
        let mut batch = batch.clone();
        batch.read(rows);
        batch
    };
    says(&batch, false, Some((1, 2)), "0 rows to read out; expected 2 rows to read out");
    says(&read(&[4, 2]), false, Some((1, 2)), "rows to read out; expected numbers below 6 that ascend");
    says(&read(&[2, 6]), false, Some((1, 2)), "rows to read out; expected numbers below 6 that ascend");

    let longer = session(false, None, 7).unwrap_err().to_string();
    let positions = "sequences of up to 7 tokens; expected at most 6, as many as there are positions";
    assert_eq!(longer, format!("operation packing: found {positions}"));
    let behind = session(false, Some((0, 2)), 5).unwrap_err().to_string();
    let sites = "rows read out at layer 0 and sites behind it; expected no site behind layer 0: the layers there need all rows";
    assert_eq!(behind, format!("operation forward: found {sites}"));
    let (mut session, view) = session(false, None, 5).unwrap();
    let mut part = |rows, columns: &[usize]| session.read_part(&view, rows, columns).unwrap_err().to_string();
    assert_eq!(part(0..7, &[0]), "operation packing: found row 6; expected rows below 6");
    assert_eq!(
        part(0..6, &[0, view.cols]),
        format!("operation packing: found column {0}; expected columns below {0}", view.cols)
    );
}
