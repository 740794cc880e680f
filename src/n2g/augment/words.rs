//! The words of a text, and how a substitute is written in the place of one (`n2g.md` 1.4). Only strings: no
//! tokens, no model.

use std::ops::Range;

use super::super::vocabulary::{has_letter, is_title};

/// What may stand in the place of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub text: String,
    /// It goes on with the word in front, as `##ing` of a word piece vocabulary does.
    pub is_continuation: bool,
}

/// Bytes of a text, and what is written in their place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub range: Range<usize>,
    pub text: String,
}

impl Change {
    /// The text with the change.
    pub fn apply(&self, text: &str) -> String {
        [&text[..self.range.start], &self.text, &text[self.range.end..]].concat()
    }
}

/// Whether a character is of a word: letters and apostrophes are, every other one stands alone.
fn is_inner(c: char) -> bool {
    c == '\'' || has_letter(c.encode_utf8(&mut [0; 4]))
}

/// The bytes of each word: a run of letters and apostrophes with a letter among them.
pub fn words(text: &str) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (at, c) in text.char_indices().filter(|(_, c)| is_inner(*c)) {
        match runs.last_mut().filter(|run| run.end == at) {
            Some(run) => run.end = at + c.len_utf8(),
            None => runs.push(at..at + c.len_utf8()),
        }
    }
    runs.retain(|run| has_letter(&text[run.clone()]));
    runs
}

/// By what texts are compared: without case, and without what is neither letter nor number around them.
pub fn form(text: &str) -> String {
    text.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase()
}

/// Whether a candidate says anything that the word does not.
pub fn is_substitute(candidate: &str, word: &str) -> bool {
    has_letter(candidate) && form(candidate) != form(word)
}

/// A candidate in the case of the word: title case for title case, upper for all upper, else as it is.
fn cased(candidate: &str, word: &str) -> String {
    let is_upper = !word.chars().any(char::is_lowercase) && word.chars().any(char::is_uppercase);
    match (is_title(word), is_upper) {
        (true, _) => title(candidate),
        (false, true) => candidate.to_uppercase(),
        (false, false) => candidate.into(),
    }
}

/// Upper case at the head of every run of letters, lower case behind it.
fn title(text: &str) -> String {
    let mut is_behind = false;
    let mut of = |c: char| {
        let one: String = if is_behind { c.to_lowercase().collect() } else { c.to_uppercase().collect() };
        is_behind = c.is_lowercase() || c.is_uppercase();
        one
    };
    text.chars().map(&mut of).collect()
}

/// How a candidate is written in the place of a word of `text`. A continuation is glued to what stands in
/// front of the word, without the space between, and changes that word with it; `None` where nothing stands
/// there.
pub fn change(text: &str, word: &Range<usize>, candidate: &Candidate) -> Option<Change> {
    if !candidate.is_continuation {
        return Some(Change { range: word.clone(), text: cased(&candidate.text, &text[word.clone()]) });
    }
    let front = &text[..word.start];
    let front = front.strip_suffix(' ').unwrap_or(front);
    let start = front.trim_end_matches(is_inner).len();
    let is_at_start = front.trim().is_empty();
    (!is_at_start).then(|| Change { range: start..word.end, text: [&front[start..], &candidate.text].concat() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        words(text).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn a_word_is_a_run_of_letters_and_apostrophes() {
        assert_eq!(found(" The thought didn't even cross my mind."), ["The", "thought", "didn't", "even", "cross", "my", "mind"]);
        assert_eq!(found("abc123d-e_f ' '' x' 42 ¿été? 日本"), ["abc", "d", "e", "f", "x'", "été", "日本"]);
        assert_eq!(found(" ,.\n"), [""; 0]);
    }

    #[test]
    fn a_word_is_no_substitute_of_itself() {
        assert_eq!(
            (form(" The"), form("“Don't,”"), form("'tis"), form(" - ")),
            ("the".into(), "don't".into(), "tis".into(), "".into())
        );
        for (candidate, word, want) in
            [("dog", "cat", true), ("CAT", "cat", false), ("cat", "Cat'", false), ("42", "cat", false), ("-", "cat", false)]
        {
            assert_eq!(is_substitute(candidate, word), want, "{candidate} for {word}");
        }
    }

    #[test]
    fn substitutes_take_the_case_of_the_word() {
        for (word, candidate, want) in [
            ("Cat", "dog", "Dog"),
            ("Cat", "o'neill mc", "O'Neill Mc"),
            ("CAT", "dog", "DOG"),
            ("DON'T", "dog", "DOG"),
            ("I", "we", "We"),
            ("cat", "Dog", "Dog"),
            ("cAT", "dog", "dog"),
            ("Été", "ÎLE", "Île"),
            ("日本", "dog", "dog"),
        ] {
            assert_eq!(cased(candidate, word), want, "{candidate} for {word}");
        }
    }

    #[test]
    fn a_continuation_is_glued_to_the_word_in_front() {
        let text = "He was walk home";
        let glued = |text: &str, word: Range<usize>| {
            let candidate = Candidate { text: "ing".into(), is_continuation: true };
            change(text, &word, &candidate).map(|change| (change.range.clone(), change.apply(text)))
        };
        assert_eq!(glued(text, 12..16), Some((7..16, "He was walking".into())));
        assert_eq!(glued("a-b c", 2..3), Some((2..3, "a-ing c".into())));
        assert_eq!(glued("x. b c", 3..4), Some((2..4, "x.ing c".into())));
        assert_eq!((glued("b c", 0..1), glued(" b c", 1..2), glued("\n b", 2..3)), (None, None, None));
        let plain = Candidate { text: "run".into(), is_continuation: false };
        assert_eq!(change(text, &(7..11), &plain).unwrap().apply(text), "He was run home");
    }
}
