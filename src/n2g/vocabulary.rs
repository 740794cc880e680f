//! Tokens as patterns see them: each id has a text and a key, and ids of one key are one to a trie.

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
/// than one character, then without space around it if it is longer than that and has a letter.
fn normalised(text: &str) -> String {
    let _ = text;
    String::new()
}
