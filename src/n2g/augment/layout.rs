//! A prompt as text, and the tokens of that text with a change in it.
//!
//! A tokenizer may cut the start of a prompt in another way than the window that it was taken from. What
//! stands there keeps the prompt's own tokens: only from where both are alike on can a change be placed.

use std::ops::Range;

use super::words::Change;
use crate::error::Result;
use crate::model::Tokenizer;

/// The text of some tokens, without a BOS token in front.
#[derive(Clone, Debug)]
pub struct Layout {
    pub text: String,
    /// `[tokens + 1]`: the byte that each begins at, and the end. Of tokens that share a character only the
    /// last one has it.
    starts: Vec<usize>,
    /// The tokens of the text, and how many of them, and of the prompt, are alike at the end.
    encoded: Vec<u32>,
    alike: usize,
}

/// The tokens of a changed text: in place of those of `range` there are `count`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    pub tokens: Vec<u32>,
    pub range: Range<usize>,
    pub count: usize,
}

impl Layout {
    /// Fails on tokens that there are not, and on text that the tokenizer refuses.
    pub fn new(tokenizer: &Tokenizer, tokens: &[u32]) -> Result<Self> {
        let text = tokenizer.decode(tokens)?;
        let mut starts = Vec::with_capacity(tokens.len() + 1);
        for n in 0..tokens.len() {
            starts.push(in_common(&text, &tokenizer.decode(&tokens[..n])?));
        }
        starts.push(text.len());
        let encoded = tokenizer.encode(&text)?;
        let alike = encoded.iter().rev().zip(tokens.iter().rev()).take_while(|(a, b)| a == b).count();
        Ok(Self { text, starts, encoded, alike })
    }
    /// The byte behind a token.
    pub fn end(&self, token: usize) -> usize {
        self.starts[token + 1]
    }
    /// The tokens that these bytes are of.
    pub fn tokens(&self, bytes: &Range<usize>) -> Range<usize> {
        let count = self.starts.len() - 1;
        let mut first = (0..count).find(|&t| self.starts[t + 1] > bytes.start).unwrap_or(count);
        while first > 0 && self.starts[first - 1] == self.starts[first] {
            first -= 1;
        }
        let end = (first..count).find(|&t| self.starts[t] >= bytes.end).unwrap_or(count);
        first..end.max(first)
    }
    /// The prompt's `tokens` with a change of the text; `None` where tokens in front of what is changed, or
    /// behind it, would change with it.
    pub fn changed(&self, tokenizer: &Tokenizer, tokens: &[u32], change: &Change) -> Result<Option<Changed>> {
        let range = self.tokens(&change.range);
        let Some(front) = range.start.checked_sub(tokens.len() - self.alike) else { return Ok(None) };
        let front = front + self.encoded.len() - self.alike;
        let (ids, behind) = (tokenizer.encode(&change.apply(&self.text))?, &tokens[range.end..]);
        let Some(count) = ids.len().checked_sub(front + behind.len()).filter(|n| *n > 0) else { return Ok(None) };
        if ids[..front] != self.encoded[..front] || !ids.ends_with(behind) {
            return Ok(None);
        }
        Ok(Some(Changed { tokens: [&tokens[..range.start], &ids[front..]].concat(), range, count }))
    }
}

/// Bytes of whole characters that two texts begin with.
fn in_common(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    /// Byte-level with a few merges.
    fn tokenizer() -> Tokenizer {
        let letters = ["a", "b", "c", "t", "h", "e", "d", "o", "g", "Ġ", "Ã", "©", "."];
        let merged = [("Ġ", "c"), ("a", "t"), ("Ġc", "at"), ("t", "h"), ("th", "e"), ("Ġ", "d"), ("o", "g"), ("Ġd", "og")];
        let merged = [&merged[..], &[("Ġ", "a"), ("at", ".")]].concat();
        let all = letters.iter().map(|l| l.to_string()).chain(merged.iter().map(|(a, b)| format!("{a}{b}")));
        let vocab: serde_json::Map<String, Value> = all.enumerate().map(|(i, t)| (t, json!(i))).collect();
        let merges: Vec<[&str; 2]> = merged.iter().map(|(a, b)| [*a, *b]).collect();
        let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
        let file = json!({"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": level, "decoder": level,
            "model": {"type": "BPE", "vocab": vocab, "merges": merges}});
        Tokenizer::embedded(Path::new("M"), file.to_string().as_bytes(), &Value::Null).unwrap()
    }
    fn changed(t: &Tokenizer, tokens: &[u32], range: Range<usize>, text: &str) -> Option<Changed> {
        Layout::new(t, tokens).unwrap().changed(t, tokens, &Change { range, text: text.into() }).unwrap()
    }

    #[test]
    fn tokens_are_found_by_their_bytes() {
        let t = tokenizer();
        let layout = Layout::new(&t, &t.encode("the cat cé dog").unwrap()).unwrap();
        assert_eq!(layout.text, "the cat cé dog");
        assert_eq!(layout.starts, [0, 3, 7, 9, 9, 11, 15]);
        assert_eq!((layout.tokens(&(4..7)), layout.tokens(&(8..11)), layout.tokens(&(9..11))), (1..2, 2..5, 3..5));
        assert_eq!((layout.tokens(&(0..1)), layout.tokens(&(12..15)), layout.end(1)), (0..1, 5..6, 7));
    }

    #[test]
    fn a_change_leaves_the_tokens_around_it() {
        let t = tokenizer();
        let tokens = t.encode("the cat dog").unwrap();
        let got = changed(&t, &tokens, 4..7, "dog").unwrap();
        assert_eq!((got.tokens, got.range, got.count), (t.encode("the dog dog").unwrap(), 1..2, 1));
        let got = changed(&t, &tokens, 4..7, "abc").unwrap();
        assert_eq!((got.tokens, got.range, got.count), (t.encode("the abc dog").unwrap(), 1..2, 3));
        // `at.` is one token: the full stop does not stay what it was.
        let tokens = t.encode("the dog.").unwrap();
        assert_eq!(
            changed(&t, &tokens, 4..7, "cat"),
            Some(Changed { tokens: t.encode("the cat.").unwrap(), range: 1..2, count: 1 })
        );
        assert_eq!(changed(&t, &tokens, 4..7, "bat"), None);
        assert_eq!(changed(&t, &tokens, 3..7, ""), None, "nothing in its place");
    }

    #[test]
    fn the_start_of_a_prompt_keeps_its_tokens() {
        let t = tokenizer();
        let (cat, dog) = (t.encode(" cat").unwrap(), t.encode(" dog").unwrap());
        // `t`, `h`, `e` would be one token if they did not come from somewhere else.
        let split = [t.encode("t").unwrap(), t.encode("h").unwrap(), t.encode("e").unwrap()].concat();
        let tokens = [&split[..], &cat, &dog].concat();
        let got = changed(&t, &tokens, 4..7, "dog").unwrap();
        assert_eq!((got.tokens, got.range, got.count), ([&split[..], &dog, &dog].concat(), 3..4, 1));
        assert_eq!(changed(&t, &tokens, 0..3, "cat"), None);
    }
}
