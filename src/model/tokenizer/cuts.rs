//! Where a text may be cut so that its pieces, encoded one by one, give the ids of the whole.
//!
//! The library holds more than a hundred bytes for every byte of a text that it encodes in one piece.
//! Text is cut between a line feed behind a printable ASCII character and an ASCII letter, and only for
//! pipelines of which [`may_cut`] can tell that nothing looks or reaches across such a place:
//!
//! - added tokens hold no line feed and take no white space to their left that a cut could hide;
//! - the normalizer treats both sides apart, keeps the line feed and begins the right side with a letter;
//! - a pre-tokenizer ends a piece right behind the line feed and begins one with the letter, whether or
//!   not the other side is there; those before it split at other characters only.
//!
//! What comes after, pre-tokenizers and the model, sees one piece at a time.

use serde_json::Value;
use tokenizers::{AddedToken, Tokenizer};

/// Bytes of a text that are encoded at a time.
pub const PIECE: usize = 1 << 18;

/// Patterns that isolate what they match and end a match as described above: a line feed is matched
/// alone, or together with punctuation and white space before it, and no match starts or ends because of
/// what stands on the other side of the cut.
const PATTERNS: [&str; 4] = [
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"\n|▁*[^▁\n]+|▁+",
];

/// What a normalizer does to the characters at a cut.
#[derive(Clone, Copy, PartialEq)]
enum LineFeed {
    Kept,
    /// Made a space.
    Blank,
}

/// What a pre-tokenizer does at a cut.
#[derive(Clone, Copy, PartialEq)]
enum Split {
    /// It splits there.
    Here,
    /// It splits there, and would do so too if the line feed were another white space.
    AtAnySpace,
    /// It splits at other characters only, and keeps what is around the cut.
    Elsewhere,
    /// It sees each piece by itself, but changes the characters that a later one would look for.
    Nowhere,
}

/// Whether texts of this pipeline may be cut.
pub fn may_cut(pipeline: &Tokenizer) -> bool {
    let normalizer = serde_json::to_value(pipeline.get_normalizer());
    let pre_tokenizer = serde_json::to_value(pipeline.get_pre_tokenizer());
    let (Ok(normalizer), Ok(pre_tokenizer)) = (normalizer, pre_tokenizer) else { return false };
    let (Some(line_feed), Some(split)) = (line_feed(&normalizer), split(&pre_tokenizer)) else { return false };
    let splits = match line_feed {
        LineFeed::Kept => [Split::Here, Split::AtAnySpace].contains(&split),
        LineFeed::Blank => split == Split::AtAnySpace,
    };
    splits && pipeline.get_added_tokens_decoder().values().all(|token| stays_aside(token, line_feed, normalizer.is_null()))
}

/// Whether no match of an added token can reach across a cut.
fn stays_aside(token: &AddedToken, line_feed: LineFeed, is_raw: bool) -> bool {
    let reaches = |c: char| if line_feed == LineFeed::Kept { c == '\n' } else { c.is_whitespace() };
    let strips = token.lstrip && (token.content.starts_with(char::is_alphanumeric) || (token.normalized && !is_raw));
    !token.content.contains(reaches) && !strips
}

fn line_feed(normalizer: &Value) -> Option<LineFeed> {
    if normalizer.is_null() {
        return Some(LineFeed::Kept);
    }
    match normalizer["type"].as_str()? {
        "NFC" | "NFD" | "NFKC" | "NFKD" | "Lowercase" => Some(LineFeed::Kept),
        "Replace" if normalizer["pattern"]["String"] == " " && normalizer["content"] == "▁" => Some(LineFeed::Kept),
        "BertNormalizer" => Some(LineFeed::Blank),
        "Sequence" => {
            let parts: Option<Vec<LineFeed>> = normalizer["normalizers"].as_array()?.iter().map(line_feed).collect();
            let is_blank = parts?.contains(&LineFeed::Blank);
            Some(if is_blank { LineFeed::Blank } else { LineFeed::Kept })
        }
        _ => None,
    }
}

fn split(pre_tokenizer: &Value) -> Option<Split> {
    match pre_tokenizer["type"].as_str()? {
        "ByteLevel" if pre_tokenizer["add_prefix_space"] == false => {
            Some(if pre_tokenizer["use_regex"] == true { Split::Here } else { Split::Nowhere })
        }
        "Digits" => Some(Split::Elsewhere),
        "BertPreTokenizer" | "Whitespace" | "WhitespaceSplit" => Some(Split::AtAnySpace),
        "Split" if pre_tokenizer["behavior"] == "Isolated" && pre_tokenizer["invert"] == false => {
            PATTERNS.contains(&pre_tokenizer["pattern"]["Regex"].as_str()?).then_some(Split::Here)
        }
        "Sequence" => {
            let mut parts = pre_tokenizer["pretokenizers"].as_array()?.iter().map(split);
            parts.try_fold(Split::Elsewhere, |whole, part| match (whole, part?) {
                (Split::Elsewhere, part) => Some(part),
                (Split::Nowhere, _) => None,
                (whole, _) => Some(whole),
            })
        }
        _ => None,
    }
}

/// The next piece of `text`, of at least `least` bytes if it has as many, and the rest.
pub fn next_piece(text: &str, least: usize) -> (&str, &str) {
    let bytes = text.as_bytes();
    let is_cut = |w: &[u8]| w[0].is_ascii_graphic() && w[1] == b'\n' && w[2].is_ascii_alphabetic();
    let from = least.saturating_sub(2).min(bytes.len());
    let found = bytes[from..].windows(3).position(is_cut);
    text.split_at(found.map_or(bytes.len(), |i| from + i + 2))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ops::probes::splitmix;

    /// A pipeline over all bytes, which merges what stands next to a cut wherever one piece holds it.
    fn pipeline(normalizer: &Value, pre_tokenizer: &Value, added: &[AddedToken]) -> Tokenizer {
        // The alphabet of byte-level pipelines: printable bytes for themselves, the others from U+0100 on.
        let is_plain = |b: &u8| b.is_ascii_graphic() || (0xa1..=0xac).contains(b) || *b >= 0xae;
        let others = (0..=255u8).filter(|b| !is_plain(b)).zip('\u{100}'..).map(|(_, c)| c);
        let letters: Vec<char> = (0..=255u8).filter(is_plain).map(char::from).chain(others).collect();
        let ends = ["Ċ", "Ġ", "ĉ", "č", ".", "1", "!", "a", "B", "\n", " ", "▁", "é"];
        let pairs: Vec<(&str, &str)> = ends.iter().flat_map(|a| ends.iter().map(move |b| (*a, *b))).collect();
        let words = letters.iter().map(char::to_string).chain(["\n", " ", "▁", "\t", "\r"].map(String::from));
        let words = words.chain(pairs.iter().map(|(a, b)| format!("{a}{b}")));
        let mut vocab = serde_json::Map::from_iter([("?".to_string(), json!(0))]);
        for word in words {
            let id = vocab.len();
            vocab.entry(word).or_insert(json!(id));
        }
        let model = json!({"type": "BPE", "vocab": vocab, "merges": pairs, "unk_token": "?"});
        let file = json!({"version": "1.0", "added_tokens": [], "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "model": model});
        let mut pipeline = Tokenizer::from_bytes(file.to_string()).unwrap();
        pipeline.add_tokens(added.iter().cloned()).unwrap();
        pipeline
    }
    fn split(pattern: &str) -> Value {
        json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
    }
    fn bytes(use_regex: bool) -> Value {
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
    }
    fn sequence(key: &str, parts: &[Value]) -> Value {
        json!({"type": "Sequence", key: parts})
    }
    fn bert() -> Value {
        json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true})
    }
    fn blanks() -> Value {
        json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
    }
    fn encode(pipeline: &Tokenizer, text: &str) -> Vec<u32> {
        pipeline.encode_fast(text, false).unwrap().get_ids().to_vec()
    }
    /// Texts in which the places of a cut, and what could hide one, are frequent.
    fn texts() -> impl Iterator<Item = String> {
        let parts = [
            "a",
            "B",
            "to",
            "The",
            "\n",
            "\n",
            "\n",
            " ",
            " ",
            "\r\n",
            "\t",
            ".",
            "!?",
            "'s",
            "'",
            "1",
            "23",
            "é",
            "e\u{301}",
            "\u{301}",
            "漢",
            "\u{2028}",
            "\u{a0}",
            "😀",
            "<x>",
            "<l>",
            "<r>",
            "▁",
            "\u{1e9b}\u{323}",
            "İ",
            "\0",
            "word",
        ];
        (0..400).map(move |seed| {
            let number = |i: u64| splitmix(splitmix(seed) ^ i) as usize;
            (0..1 + number(0) % 120).map(|i| parts[number(1 + i as u64) % parts.len()]).collect()
        })
    }
    fn added(content: &str) -> AddedToken {
        AddedToken::from(content, true)
    }

    #[test]
    fn pieces_have_the_ids_of_the_whole() {
        let nfc = || json!({"type": "NFC"});
        let digits = |individual| json!({"type": "Digits", "individual_digits": individual});
        let mut cases = Vec::new();
        for normalizer in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase"] {
            cases.push((json!({"type": normalizer}), bytes(true)));
        }
        for pattern in PATTERNS {
            cases.push((Value::Null, split(pattern)));
            cases.push((sequence("normalizers", &[nfc(), blanks()]), sequence("pretokenizers", &[split(pattern), bytes(false)])));
        }
        for individual in [true, false] {
            cases.push((Value::Null, sequence("pretokenizers", &[digits(individual), bytes(true)])));
            cases.push((nfc(), sequence("pretokenizers", &[digits(individual), split(PATTERNS[1]), bytes(false)])));
        }
        for kind in ["BertPreTokenizer", "Whitespace", "WhitespaceSplit"] {
            cases.push((bert(), json!({"type": kind})));
            cases.push((
                sequence("normalizers", &[bert(), nfc()]),
                sequence("pretokenizers", &[digits(true), json!({"type": kind})]),
            ));
            cases.push((Value::Null, json!({"type": kind})));
        }
        let tokens = [added("<x>"), added("<l>").lstrip(true), added("<r>").rstrip(true), added("word").single_word(true)];
        let mut cut = 0;
        for (normalizer, pre_tokenizer) in &cases {
            for tokens in [&tokens[..], &tokens.clone().map(|t| if t.lstrip { t } else { t.normalized(true) })] {
                let pipeline = pipeline(normalizer, pre_tokenizer, tokens);
                assert!(may_cut(&pipeline), "{normalizer} {pre_tokenizer}");
                for text in texts() {
                    let (mut ids, mut rest, mut pieces) = (Vec::new(), text.as_str(), 0);
                    while !rest.is_empty() {
                        let (piece, later) = next_piece(rest, 3);
                        ids.extend(encode(&pipeline, piece));
                        (rest, pieces) = (later, pieces + 1);
                    }
                    assert_eq!(ids, encode(&pipeline, &text), "{text:?} by {normalizer} {pre_tokenizer}");
                    cut += pieces - 1;
                }
            }
        }
        assert!(cut > 50 * cases.len(), "{cut} cuts");
    }

    #[test]
    fn other_pipelines_are_not_cut() {
        let may = |normalizer: Value, pre_tokenizer: Value, tokens: &[AddedToken]| {
            may_cut(&pipeline(&normalizer, &pre_tokenizer, tokens))
        };
        let prefixed = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
        let merged = json!({"type": "Split", "pattern": {"Regex": PATTERNS[0]}, "behavior": "MergedWithNext", "invert": false});
        let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true});
        let late = sequence("pretokenizers", &[bytes(false), split(PATTERNS[0])]);
        for pre_tokenizer in [
            Value::Null,
            bytes(false),
            prefixed,
            merged,
            metaspace,
            late,
            split(r"\s+"),
            json!({"type": "Digits", "individual_digits": true}),
        ] {
            assert!(!may(Value::Null, pre_tokenizer.clone(), &[]), "{pre_tokenizer}");
        }
        let quotes = json!({"type": "Replace", "pattern": {"String": "``"}, "content": "\""});
        for normalizer in [
            json!({"type": "Prepend", "prepend": "▁"}),
            json!({"type": "Strip", "strip_left": true, "strip_right": true}),
            quotes,
            bert(),
        ] {
            assert!(!may(normalizer.clone(), bytes(true), &[]), "{normalizer}");
        }
        assert!(may(Value::Null, bytes(true), &[added("a b")]) && may(bert(), json!({"type": "Whitespace"}), &[]));
        assert!(!may(Value::Null, bytes(true), &[added("a\nb")]));
        assert!(!may(Value::Null, bytes(true), &[added("b").lstrip(true)]));
        assert!(!may(json!({"type": "NFC"}), bytes(true), &[added("<l>").lstrip(true).normalized(true)]));
        assert!(!may(bert(), json!({"type": "Whitespace"}), &[added("a b")]));
    }

    #[test]
    fn pieces_are_no_shorter_than_asked() {
        assert_eq!(next_piece("ab\ncd\nef", 0), ("ab\n", "cd\nef"));
        assert_eq!(next_piece("ab\ncd\nef", 3), ("ab\n", "cd\nef"));
        assert_eq!(next_piece("ab\ncd\nef", 4), ("ab\ncd\n", "ef"));
        for whole in ["", "a", "ab\n", "\nab", "ab \ncd", "ab\n\ncd", "ab\n cd", "ab\n1", "é\na", "a\né"] {
            assert_eq!(next_piece(whole, 0), (whole, ""));
            assert_eq!(next_piece(whole, 99), (whole, ""));
        }
    }
}
