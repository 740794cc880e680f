//! Tokens as patterns see them: each id has a text and a key, and ids of one key are one to a trie.

use std::sync::LazyLock;

use tokenizers::utils::SysRegex;

/// Which ids share a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// Those of one text.
    Exact,
    /// Those whose texts are alike once the first letter's case and the space around are dropped.
    Normalised,
}

/// The texts and keys of a tokenizer's ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// By id: the text of the token alone.
    texts: Vec<String>,
    /// By id: its key.
    keys: Vec<u32>,
    /// By key: the text that stands for it.
    names: Vec<String>,
}

impl Vocabulary {
    /// The ids of these texts. Keys are counted in the order in which their names first come up.
    pub fn new(texts: Vec<String>, fold: Fold) -> Self {
        let mut known = std::collections::HashMap::new();
        let mut names = Vec::new();
        let key_of = |text: &String| {
            let name = match fold {
                Fold::Exact => text.clone(),
                Fold::Normalised => normalised(text),
            };
            *known.entry(name.clone()).or_insert_with(|| {
                names.push(name);
                names.len() as u32 - 1
            })
        };
        let keys = texts.iter().map(key_of).collect();
        Self { texts, keys, names }
    }
    /// What [`Vocabulary::text`], [`Vocabulary::key`] and [`Vocabulary::name`] give by id and by key; `None`
    /// if keys are not counted as [`Vocabulary::new`] does, or two have one name.
    pub fn from_parts(texts: Vec<String>, keys: Vec<u32>, names: Vec<String>) -> Option<Self> {
        let count = keys.iter().try_fold(0, |count, &key| (key <= count).then_some(count.max(key + 1)));
        let distinct: std::collections::HashSet<&String> = names.iter().collect();
        let is_sound = count == Some(names.len() as u32) && distinct.len() == names.len() && texts.len() == keys.len();
        is_sound.then_some(Self { texts, keys, names })
    }
    /// Number of ids.
    pub fn size(&self) -> usize {
        self.texts.len()
    }
    /// Number of keys: they are those below it.
    pub fn key_count(&self) -> usize {
        self.names.len()
    }
    /// The text of an id; empty for one beyond the vocabulary.
    pub fn text(&self, id: u32) -> &str {
        self.texts.get(id as usize).map_or("", String::as_str)
    }
    /// The key of an id; `None` for one beyond the vocabulary.
    pub fn key(&self, id: u32) -> Option<u32> {
        self.keys.get(id as usize).copied()
    }
    /// The text that stands for a key.
    pub fn name(&self, key: u32) -> &str {
        self.names.get(key as usize).map_or("", String::as_str)
    }
}

/// The form in which the reference compares tokens: lower case if the text is in title case and longer
/// than one character, then without space around it if it is longer than that and has a letter. Title case,
/// letters and space are those of Python's `str`.
fn normalised(text: &str) -> String {
    let is_long = |text: &str| text.chars().nth(1).is_some();
    let lower = if is_long(text) && is_title(text) { text.to_lowercase() } else { text.into() };
    match is_long(&lower) && has_letter(&lower) {
        true => lower.trim_matches(is_space).into(),
        false => lower,
    }
}

/// `str.istitle`: upper case only at the head of a run of cased characters, lower case only behind it.
pub(super) fn is_title(text: &str) -> bool {
    let (mut is_cased, mut before) = (false, false);
    for c in text.chars() {
        let is_head = c.is_uppercase() || is_title_letter(c);
        let is_tail = c.is_lowercase();
        if is_head && before || is_tail && !before {
            return false;
        }
        before = is_head || is_tail;
        is_cased |= before;
    }
    is_cased
}

/// The characters of category Lt: digraphs, and Greek capitals with iota.
fn is_title_letter(c: char) -> bool {
    matches!(c, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ' | 'ᾈ'..='ᾏ' | 'ᾘ'..='ᾟ' | 'ᾨ'..='ᾯ' | 'ᾼ' | 'ῌ' | 'ῼ')
}

/// Whether `str.isalpha` holds of one of the characters: it is of one of the categories L.
pub(super) fn has_letter(text: &str) -> bool {
    static LETTER: LazyLock<SysRegex> = LazyLock::new(|| SysRegex::new(r"\p{L}").expect("a class of characters"));
    text.chars().any(|c| c.is_ascii_alphabetic()) || (!text.is_ascii() && LETTER.find_iter(text).next().is_some())
}

/// Whether `str.strip` takes a character off: Unicode's white space and the four separators of ASCII.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_compared_as_the_reference_compares_them() {
        // What Python 3 gives for `t.lower() if t.istitle() and len(t) > 1 else t`, stripped as described.
        for (text, want) in [
            (" Cat", "cat"),
            ("Cat", "cat"),
            (" cat", "cat"),
            ("CAT", "CAT"),
            (" CAT ", "CAT"),
            ("cAT", "cAT"),
            ("A", "A"),
            (" A", "a"),
            (" A1b", "A1b"),
            ("A1B", "a1b"),
            ("He'S", "he's"),
            ("He's", "He's"),
            ("I’m", "I’m"),
            ("", ""),
            ("\n", "\n"),
            (" ", " "),
            ("\n\n", "\n\n"),
            (" 12 ", " 12 "),
            (" .", " ."),
            ("\u{1f}x\u{85}", "x"),
            ("\u{200b}x", "\u{200b}x"),
            (" Ελλάς", "ελλάς"),
            ("ΟΔΟΣ", "ΟΔΟΣ"),
            ("ǅabc", "ǆabc"),
            ("xǅ", "xǅ"),
            (" 日本 ", "日本"),
            (" ª ", "ª"),
            // Alphabetic by Unicode, but no letters: a Roman numeral, a circled letter, a vowel sign.
            (" Ⅷ ", " ⅷ "),
            (" ⓐ ", " ⓐ "),
            (" ि ", " ि "),
            ("\u{fffd}", "\u{fffd}"),
        ] {
            assert_eq!(normalised(text), want, "{text:?}");
        }
    }

    #[test]
    fn ids_of_one_form_share_a_key() {
        let texts = || ["the", " The", "THE", " ", "the", "\n"].map(String::from).to_vec();
        let folded = Vocabulary::new(texts(), Fold::Normalised);
        assert_eq!(
            (0..7).map(|id| folded.key(id)).collect::<Vec<_>>(),
            [0, 0, 1, 2, 0, 3].map(Some).into_iter().chain([None]).collect::<Vec<_>>()
        );
        assert_eq!((folded.key_count(), folded.name(0), folded.name(2), folded.name(4)), (4, "the", " ", ""));
        let exact = Vocabulary::new(texts(), Fold::Exact);
        assert_eq!((exact.key_count(), exact.key(1), exact.name(1), exact.key(4)), (5, Some(1), " The", Some(0)));
        assert_eq!((exact.size(), exact.text(1), exact.text(6)), (6, " The", ""));
    }
}
