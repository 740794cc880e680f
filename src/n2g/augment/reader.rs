//! Logits of single rows of many short texts: forward passes in packed batches, which read out no row that
//! nobody asks for. Nothing here knows what the texts are for.

use super::super::passes::{Batch, Passes};
use crate::data::buckets::buckets;
use crate::device::Device;
use crate::error::Result;
use crate::model::Lm;
use crate::model::site::{Place, Site};

/// Rows of a full batch.
const ROWS: usize = 512;
/// Logits of a full batch.
const LOGITS: usize = 1 << 22;

const PLACE: Place = Place { layer: 0, site: Site::Logits };

/// A text, and texts that go on from its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Token ids: at least one.
    pub base: Vec<u32>,
    /// The row of the base that is read.
    pub read: usize,
    /// What follows the base; every row of it is read. Only where the model is causal.
    pub behind: Vec<Vec<u32>>,
}

impl Ask {
    fn rows(&self) -> usize {
        self.base.len() + self.reads() - 1
    }
    fn reads(&self) -> usize {
        1 + self.behind.iter().map(Vec::len).sum::<usize>()
    }
}

/// Runs asks through a model with a head.
#[derive(Debug)]
pub struct Reader<'a>(Passes<'a>);

impl<'a> Reader<'a> {
    /// A reader of `lm`, which must have a head.
    pub fn new(device: &'a Device, lm: &'a Lm) -> Self {
        Self(Passes::new(device, lm, PLACE, u64::MAX))
    }
    /// Rows computed so far, without those that fill batches up.
    pub fn tokens(&self) -> u64 {
        self.0.tokens()
    }
    /// What `f` makes of the logits of each ask, by its number: of the row of the base, then of each row of
    /// `behind`, back to back. They depend on the asks alone, not on threads.
    pub fn run<T: Send>(&self, asks: &[Ask], f: impl Fn(usize, &[f64]) -> T + Sync) -> Result<Vec<T>> {
        let most_reads = (LOGITS / self.0.lm.d_vocab_out().max(1)).max(1);
        // What an ask takes of a batch, in rows: by its own, or by its logits where those are the scarcer.
        let costs: Vec<usize> = asks.iter().map(|a| a.rows().max((a.reads() * ROWS).div_ceil(most_reads))).collect();
        let batches: Vec<Vec<usize>> = buckets(&costs, ROWS).into_iter().map(|b| b.sequences).collect();
        let answers = self.0.each(&batches, |batch| self.run_batch(asks, batch, &f));
        let mut all: Vec<Option<T>> = asks.iter().map(|_| None).collect();
        for (batch, answers) in batches.iter().zip(answers) {
            for (&i, answer) in batch.iter().zip(answers?) {
                all[i] = Some(answer);
            }
        }
        Ok(all.into_iter().flatten().collect())
    }
    fn run_batch<T>(&self, asks: &[Ask], numbers: &[usize], f: &(impl Fn(usize, &[f64]) -> T + Sync)) -> Result<Vec<T>> {
        let mut batch = Batch::default();
        for ask in numbers.iter().map(|&i| &asks[i]) {
            let start = batch.push(&ask.base);
            batch.read([start + ask.read]);
            for tokens in &ask.behind {
                let row = batch.push_behind(start..start + ask.base.len(), tokens);
                batch.read(row..row + tokens.len());
            }
        }
        let (values, width) = self.0.run(batch, |session, logits, _| Ok((session.read(logits)?, logits.cols)))?;
        let mut rest = values.as_slice();
        let answer = |&i: &usize| {
            let (own, later) = rest.split_at(asks[i].reads() * width);
            rest = later;
            f(i, own)
        };
        Ok(numbers.iter().map(answer).collect())
    }
}

/// The logarithm of the sum of exponentials: what logits are above log-probabilities.
pub fn log_sum(logits: &[f64]) -> f64 {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + logits.iter().map(|x| (x - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Cpu, DType};
    use crate::model::fixture::{shared, transformer_config};
    use crate::model::{ActFn, Checkpoint, Model, Norm, TransformerConfig, random_transformer};

    #[test]
    fn rows_of_encoders_are_the_published_ones() {
        let Some(shared) = shared() else { return };
        for name in ["bert", "distilbert"] {
            let folder = shared.join("fixtures/masked-lm").join(name);
            let loaded = Model::load(folder.to_str().unwrap(), DType::F64).unwrap();
            let (lm, device) = (loaded.model.lm().unwrap(), Device::Cpu(Cpu::new(2).unwrap()));
            let goldens = Checkpoint::open(&folder.join("goldens.safetensors")).unwrap();
            let ids = |name: &str| goldens.tensor_i64(name).unwrap().into_iter().map(|id| id as u32).collect::<Vec<_>>();
            let (tokens, seen) = (ids("tokens"), ids("attention_mask"));
            let want = goldens.tensor_f64("logits", &[3, 17, 91]).unwrap();
            // What is hidden stands at the end, and is left out here.
            let texts = tokens.chunks_exact(17).zip(seen.chunks_exact(17));
            let texts: Vec<Vec<u32>> =
                texts.map(|(ids, seen)| ids[..seen.iter().filter(|s| **s == 1).count()].to_vec()).collect();
            assert_eq!(texts.iter().map(Vec::len).collect::<Vec<_>>(), [17, 12, 17]);
            let rows: Vec<(usize, usize)> = (0..3).flat_map(|i| (0..texts[i].len()).map(move |row| (i, row))).collect();
            let ask = |&(i, read): &(usize, usize)| Ask { base: texts[i].clone(), read, behind: vec![] };
            let asks: Vec<Ask> = rows.iter().map(ask).collect();
            let found = Reader::new(&device, &lm).run(&asks, |_, row| row.to_vec()).unwrap();
            for ((i, row), found) in rows.iter().zip(found) {
                let want = &want[(i * 17 + row) * 91..][..91];
                let error = want.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(found.len() == 91 && error < 1e-9, "{name} {i}, row {row}: {error:e}");
            }
        }
    }

    #[test]
    fn texts_that_share_a_start_are_what_they_are_alone() {
        let config = TransformerConfig { n_ctx: 80, ..transformer_config(Norm::Ln, ActFn::SoluLn) };
        let model = Model::Transformer(random_transformer(config, DType::F64, 3).unwrap());
        let (lm, device) = (model.lm().unwrap(), Device::Cpu(Cpu::new(2).unwrap()));
        let reader = Reader::new(&device, &lm);
        let tokens = |n: usize, seed: usize| (0..n).map(|i| ((i * i * 5 + i * seed + seed) % 11) as u32).collect::<Vec<u32>>();
        let ask =
            |n: usize| Ask { base: tokens(n, n), read: n - 1, behind: vec![tokens(2, 3), vec![], tokens(1, 5), tokens(4, 7)] };
        let asks: Vec<Ask> = (1..70).map(ask).collect();
        let got = reader.run(&asks, |i, rows| (i, rows.to_vec())).unwrap();
        assert_eq!(reader.tokens(), asks.iter().map(|a| a.rows() as u64).sum::<u64>());
        for (n, (ask, (i, rows))) in asks.iter().zip(&got).enumerate() {
            assert_eq!((*i, rows.len()), (n, 9 * ask.reads()));
            let mut own = rows.chunks(9).skip(1);
            for tokens in &ask.behind {
                let base = [&ask.base[..], tokens].concat();
                for (read, found) in (ask.base.len()..base.len()).zip(&mut own) {
                    let alone = Ask { base: base.clone(), read, behind: vec![] };
                    let alone = reader.run(&[alone], |_, row| row.to_vec()).unwrap().remove(0);
                    assert!(alone.iter().zip(found).all(|(a, b)| (a - b).abs() < 1e-12), "{n}, row {read}");
                }
            }
        }
        assert!((log_sum(&[1.0, 2.0, 1000.0]) - 1000.0).abs() < 1e-12 && (log_sum(&[0.0; 4]) - 4f64.ln()).abs() < 1e-12);
    }
}
