//! Text files as documents: .txt is one, .jsonl holds one a line.
//!
//! Bytes are kept as they are: line ends are not translated, and a byte order mark is text.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::demo;
use crate::error::{Error, Result};

/// A kind of text file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextKind {
    /// One document.
    Txt,
    /// A JSON object a line, the document in its field `text`.
    Jsonl,
}

impl TextKind {
    /// The kind of a file by its extension, in any case; `None` for files that are no text.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_ascii_lowercase().to_str()? {
            "txt" => Some(TextKind::Txt),
            "jsonl" => Some(TextKind::Jsonl),
            _ => None,
        }
    }
}

/// The text file that `--data` names, or `demo:NAME` where a text travels with that model; `None` if it
/// names something else. Fails on `FILE#NAME` where FILE is one: text has no parts.
pub fn text_of(spec: &str) -> Result<Option<(&Path, TextKind)>> {
    let kind = |spec: &str| demo::text_of(spec).map(|_| TextKind::Txt).or_else(|| TextKind::of(Path::new(spec)));
    if let Some(kind) = kind(spec) {
        return Ok(Some((Path::new(spec), kind)));
    }
    match spec.rsplit_once('#') {
        Some((file, _)) if kind(file).is_some() && !Path::new(spec).exists() => {
            Err(Error::flag("--data", spec, "FILE alone: text has no parts with a NAME"))
        }
        _ => Ok(None),
    }
}

/// The documents of a file.
#[derive(Debug)]
pub struct Documents {
    pub texts: Vec<String>,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}

impl Documents {
    /// Reads a file, or the text of `demo:NAME`. Lines of a .jsonl that hold nothing but white space are passed over.
    ///
    /// Fails with one sentence on a missing file, on bytes that are not UTF-8, and on lines that are not
    /// JSON objects with a string `text`.
    pub fn read(path: &Path, kind: TextKind) -> Result<Self> {
        if let Some((text, _)) = path.to_str().and_then(demo::text_of) {
            return Ok(Self { texts: vec![text.into()], sha256: format!("{:x}", Sha256::digest(text)) });
        }
        let expected = "a text file";
        match std::fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(Error::file(path, "no such file", expected)),
            Ok(m) if !m.is_file() => return Err(Error::file(path, "no regular file", expected)),
            _ => {}
        }
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, "reading", e))?;
        let sha256 = format!("{:x}", Sha256::digest(&bytes));
        let text = String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            let line = e.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
            let place = match kind {
                TextKind::Txt => format!("byte {at}"),
                TextKind::Jsonl => format!("byte {at}, line {line}"),
            };
            Error::file(path, format!("no UTF-8 at {place}"), "UTF-8 text")
        })?;
        let texts = match kind {
            TextKind::Txt => vec![text],
            TextKind::Jsonl => {
                let lines = text.split('\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
                lines.map(|(i, line)| document(path, i + 1, line)).collect::<Result<_>>()?
            }
        };
        Ok(Self { texts, sha256 })
    }
}

fn document(path: &Path, number: usize, line: &str) -> Result<String> {
    let wrong = |found: String| Error::file(path, format!("line {number}: {found}"), "a JSON object with a string `text`");
    let mut object: Map<String, Value> = serde_json::from_str(line).map_err(|e| wrong(format!("no JSON object ({e})")))?;
    match object.remove("text") {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(wrong("a `text` that is no string".into())),
        None => Err(wrong("no field `text`".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, bytes: &[u8]) -> std::result::Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let read = Documents::read(&path, TextKind::of(&path).unwrap());
        read.map(|d| d.texts).map_err(|e| e.to_string().split_once(": ").unwrap().1.into())
    }

    #[test]
    fn extensions_decide() {
        let kind = |name: &str| TextKind::of(Path::new(name));
        assert_eq!(
            [kind("a.txt"), kind("d/A.TXT"), kind("a.b.JsonL")],
            [Some(TextKind::Txt), Some(TextKind::Txt), Some(TextKind::Jsonl)]
        );
        assert_eq!([kind("txt"), kind(".txt"), kind("a.txt.gz"), kind("a.json")], [None; 4]);
        let text = |spec| text_of(spec).map(|t| t.map(|t| t.1)).map_err(|e| e.to_string());
        assert_eq!([text("a#b.txt"), text("a#b"), text("demo:modadd#test")], [Ok(Some(TextKind::Txt)), Ok(None), Ok(None)]);
        assert_eq!(text("a.txt#b").unwrap_err(), "--data: found a.txt#b; expected FILE alone: text has no parts with a NAME");
        assert_eq!([text("demo:lm"), text("demo:none")], [Ok(Some(TextKind::Txt)), Ok(None)]);
        let e = text("demo:lm#train").unwrap_err();
        assert_eq!(e, "--data: found demo:lm#train; expected FILE alone: text has no parts with a NAME");
    }

    #[test]
    fn text_is_kept_byte_by_byte() {
        for text in ["", "\r\n", "\u{feff}a\r\nb\0\rc\n\n", "é"] {
            assert_eq!(read("a.txt", text.as_bytes()), Ok(vec![text.to_string()]));
        }
        let lines = "{\"text\": \"a\\r\\n\"}\r\n\n  \t\r\n{\"id\": 1, \"text\": \"\"}\n{\"text\":\"\\u00e9\u{feff}\"}";
        assert_eq!(read("a.jsonl", lines.as_bytes()), Ok(vec!["a\r\n".into(), "".into(), "é\u{feff}".into()]));
        assert_eq!(read("a.jsonl", b""), Ok(vec![]));
    }

    #[test]
    fn what_cannot_be_read_is_placed() {
        assert_eq!(read("a.txt", b"ab\n\xffc").unwrap_err(), "no UTF-8 at byte 3; expected UTF-8 text");
        assert_eq!(read("a.txt", b"\xc3").unwrap_err(), "no UTF-8 at byte 0; expected UTF-8 text");
        assert_eq!(
            read("a.jsonl", b"{\"text\": \"\"}\n\n\"\xff\"").unwrap_err(),
            "no UTF-8 at byte 15, line 3; expected UTF-8 text"
        );
        let wanted = "expected a JSON object with a string `text`";
        for (line, found) in [
            ("{\"txt\": \"a\"}", "no field `text`; "),
            ("{\"text\": 3}", "a `text` that is no string; "),
            ("{\"text\": null}", "a `text` that is no string; "),
            ("[\"a\"]", "no JSON object (invalid type: sequence, expected a map "),
            ("{\"text\": \"a\"", "no JSON object (EOF while parsing an object at line 1 column 12); "),
            ("{\"text\": \"a\"} {}", "no JSON object (trailing characters "),
            ("{\"text\": \"\\ud800\"}", "no JSON object (unexpected end of hex escape "),
            ("\u{feff}{\"text\": \"a\"}", "no JSON object (expected value "),
        ] {
            let e = read("a.jsonl", format!("{{\"text\": \"\"}}\n\n{line}\n").as_bytes()).unwrap_err();
            assert!(e.starts_with(&format!("line 3: {found}")) && e.ends_with(wanted), "{e}");
        }
        let dir = tempfile::tempdir().unwrap();
        let message = |p: &Path| Documents::read(p, TextKind::Txt).unwrap_err().to_string();
        assert!(message(&dir.path().join("a.txt")).ends_with("a.txt: no such file; expected a text file"));
        assert!(message(dir.path()).ends_with(": no regular file; expected a text file"));
    }
}
