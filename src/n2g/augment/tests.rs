use super::*;
use crate::device::{Cpu, DType};
use crate::model::Model;
use crate::n2g::settings::Mode;
use crate::n2g::vocabulary::Fold;

const BOS: u32 = 0;

/// The demo model with its own embeddings as what proposes.
struct Demo {
    device: Device,
    lm: Lm,
    tokenizer: Tokenizer,
    proposer: Proposer,
    texts: Vocabulary,
}

impl Demo {
    fn new() -> Self {
        let loaded = Model::load("demo:lm", DType::F32).unwrap();
        let tokenizer = loaded.tokenizer().unwrap();
        Self {
            device: Device::Cpu(Cpu::new(2).unwrap()),
            lm: loaded.model.lm().unwrap().into_owned(),
            proposer: Proposer::embedding(Path::new("demo:lm"), &loaded).unwrap(),
            texts: Vocabulary::new(tokenizer.token_texts().unwrap(), Fold::Exact),
            tokenizer,
        }
    }
    fn augmenter<'a>(&'a self, settings: &'a Settings) -> Augmenter<'a> {
        Augmenter::new(&self.device, (&self.lm, &self.tokenizer, &self.texts), &self.proposer, settings, &[BOS])
    }
    /// A prompt with a BOS token, its pivot the last token that begins as `pivot`, and importances 0.9 of the
    /// tokens with these texts.
    fn prompt(&self, text: &str, pivot: &str, important: &[&str]) -> (Vec<u32>, usize, Vec<f64>) {
        let tokens = [&[BOS][..], &self.tokenizer.encode(text).unwrap()].concat();
        let is = |t: usize, what: &str| self.texts.text(tokens[t]) == what;
        let pivot = (0..tokens.len()).rev().find(|&t| is(t, pivot)).unwrap();
        let of = |t: usize| if important.iter().any(|what| is(t, what)) { 0.9 } else { 0.1 };
        let importance = (0..tokens.len()).map(of).collect();
        (tokens, pivot, importance)
    }
    /// The words that are replaced in a prompt, with what stands in their place.
    fn replaced(&self, mode: Mode, (tokens, pivot, importance): &(Vec<u32>, usize, Vec<f64>)) -> Vec<Substitute> {
        let settings = Settings::of(mode, 1, Some(BOS));
        let original = Original { tokens, pivot: *pivot, importance };
        self.augmenter(&settings).substitutes(&[original]).unwrap().remove(0)
    }
    fn chosen(&self, mode: Mode, (tokens, pivot, importance): &(Vec<u32>, usize, Vec<f64>)) -> Vec<String> {
        let settings = Settings::of(mode, 1, Some(BOS));
        let original = Original { tokens, pivot: *pivot, importance };
        let layout = Layout::new(&self.tokenizer, &tokens[1..]).unwrap();
        let ranges = self.augmenter(&settings).chosen(&original, &layout, 1);
        ranges.into_iter().map(|range| layout.text[range].to_string()).collect()
    }
}

#[test]
fn words_in_front_of_the_pivot_that_matter_are_replaced() {
    let demo = Demo::new();
    let prompt = demo.prompt(" The people of the United States and the people said", " people", &[" people", " United", " said"]);
    assert_eq!(demo.chosen(Mode::Default, &prompt), ["people", "United"]);
    assert_eq!(demo.chosen(Mode::Paper, &prompt), ["people", "United"]);
    // The published code replaces the pivot too, and every word that looks like a token of importance.
    assert_eq!(demo.chosen(Mode::Reference, &prompt), ["people", "United", "people"]);
    let prompt = demo.prompt(" The people of the United States and the people said", " people", &[" The"]);
    assert_eq!(demo.chosen(Mode::Default, &prompt), ["The"]);
    assert_eq!(demo.chosen(Mode::Reference, &prompt), ["The", "the", "the"]);
    let prompt = demo.prompt("<|endoftext|> the people", " people", &["<|endoftext|>", " the"]);
    assert_eq!(
        (demo.chosen(Mode::Default, &prompt), demo.chosen(Mode::Reference, &prompt)),
        (vec!["the".into()], vec!["the".into()])
    );
}

#[test]
fn a_substitute_changes_one_word_and_nothing_else() {
    let demo = Demo::new();
    let prompt = demo.prompt(" The people of the United States would have to", " have", &[" people", " would", " The"]);
    let (tokens, pivot, _) = &prompt;
    for mode in [Mode::Default, Mode::Reference, Mode::Paper, Mode::OpenAi] {
        let found = demo.replaced(mode, &prompt);
        assert!(found.len() > 5 && found.len() <= 20, "{mode:?}: {}", found.len());
        let distinct: HashSet<&Vec<u32>> = found.iter().map(|s| &s.tokens).collect();
        assert!(distinct.len() == found.len() && !distinct.contains(tokens));
        for s in &found {
            let (range, count) = s.replaced.clone().unwrap();
            assert_eq!(s.tokens[..range.start], tokens[..range.start]);
            assert_eq!(s.tokens[range.start + count..], tokens[range.end..]);
            assert_eq!((s.tokens[0], s.tokens[s.pivot], s.tokens.len() - s.pivot), (BOS, tokens[*pivot], tokens.len() - pivot));
            assert_ne!(s.tokens[range.start..range.start + count], tokens[range]);
        }
        let of_the = found.iter().filter(|s| s.replaced.as_ref().unwrap().0 == (1..2)).map(|s| demo.texts.text(s.tokens[1]));
        // The first word is in title case, and so is what stands in its place.
        assert!(
            of_the.clone().count() > 0
                && of_the.clone().all(|text| text.starts_with(' ') && text[1..2].to_uppercase() == text[1..2])
        );
    }
}

#[test]
fn the_model_under_test_puts_what_it_expects_first() {
    let demo = Demo::new();
    let prompt = demo.prompt(" The people of the United States would have to", " have", &[" would"]);
    let found = demo.replaced(Mode::Default, &prompt);
    assert_eq!(found.len(), 5);
    let reader = Reader::new(&demo.device, &demo.lm);
    // Log-probabilities, token by token, of whole prompts as far as the substitute.
    let score = |s: &Substitute| -> f64 {
        let (range, count) = s.replaced.clone().unwrap();
        let asks: Vec<Ask> = (range.start..range.start + count)
            .map(|t| Ask { base: s.tokens[..t].to_vec(), read: t - 1, behind: vec![] })
            .collect();
        let rows = reader.run(&asks, |_, row| row.to_vec()).unwrap();
        rows.iter().zip(range.start..).map(|(row, t)| row[s.tokens[t] as usize] - log_sum(row)).sum()
    };
    let scores: Vec<f64> = found.iter().map(score).collect();
    assert!(scores.windows(2).all(|pair| pair[0] >= pair[1] - 1e-4), "{scores:?}");
    assert!(scores[0] > scores[4] + 0.1, "{scores:?}");
    let without = Settings { substitutes: 1, ..Settings::of(Mode::Default, 1, Some(BOS)) };
    let original = Original { tokens: &prompt.0, pivot: prompt.1, importance: &prompt.2 };
    let augmenter = demo.augmenter(&without);
    assert_eq!(augmenter.substitutes(&[original, original]).unwrap().iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
    assert!(augmenter.tokens() > 0);
}

#[test]
fn a_prompt_longer_than_the_model_reads_is_left_out() {
    let demo = Demo::new();
    let mut prompt = demo.prompt(" The people of the United States would have to", " have", &[" people"]);
    assert!(!demo.replaced(Mode::Default, &prompt).is_empty());
    let more = demo.lm.n_ctx + 1 - prompt.0.len();
    prompt.0.extend(vec![prompt.0[3]; more]);
    prompt.2.extend(vec![0.0; more]);
    assert_eq!(demo.replaced(Mode::Default, &prompt), []);
}
