//! The grammar of modules and entries: directives, variables, parameters. The statements of an entry are for `body`.

use std::sync::Arc;

use crate::body;
use crate::fault::ParseError;
use crate::instruction::{Content, Instruction, Op};
use crate::lexer::{self, Token};
use crate::module::{Kernel, Module, Param};
use crate::operand::Cursor;
use crate::scope::{Names, Shared, Symbol};
use crate::shared;
use crate::types::Type;

/// Bytes of static shared memory that ptxas allows a kernel.
const STATIC_SHARED: u64 = 48 * 1024;

/// Directives whose line is skipped up to its semicolon or its end.
pub(crate) fn skip_debug(cursor: &mut Cursor) {
    let line = cursor.line();
    while cursor.line() == line && *cursor.peek() != Token::End {
        cursor.next();
    }
}

/// Attaches the line to a message from decoding.
pub(crate) fn at<T>(line: usize, result: Result<T, String>) -> Result<T, ParseError> {
    result.map_err(|message| ParseError { line, message })
}

pub(crate) fn parse(text: &str) -> Result<Module, ParseError> {
    let mut cursor = Cursor::new(lexer::tokens(text)?);
    let mut module = Module { version: String::new(), target: String::new(), kernels: Vec::new() };
    let mut variables = Vec::new();
    let lines: Arc<[String]> = text.lines().map(|line| line.trim().to_string()).collect();
    loop {
        let line = cursor.line();
        if *cursor.peek() == Token::End {
            break;
        }
        let word = cursor.word("a directive")?;
        match word.as_str() {
            ".version" => module.version = version(&mut cursor)?,
            ".target" => {
                module.target = cursor.word("a target such as sm_80")?;
                while cursor.accept(',') {
                    cursor.word("a target option")?;
                }
                if capability(&module.target).is_none() {
                    return Err(ParseError {
                        line,
                        message: format!("found the target `{}`; expected sm_80 or the like", module.target),
                    });
                }
            }
            ".address_size" => {
                let size = cursor.count()?;
                if size != 64 {
                    return Err(ParseError { line, message: format!("found .address_size {size}; expected 64") });
                }
            }
            ".file" | ".loc" => skip_debug(&mut cursor),
            ".pragma" => pragma(&mut cursor)?,
            ".visible" | ".extern" | ".weak" => {}
            ".entry" => {
                if module.version.is_empty() || module.target.is_empty() {
                    return Err(ParseError { line, message: "found .entry before .version and .target".into() });
                }
                let kernel = entry(&mut cursor, &variables, &module.target, &lines)?;
                if module.kernel(&kernel.name).is_some() {
                    return Err(ParseError { line, message: format!("the entry `{}` is declared twice", kernel.name) });
                }
                module.kernels.push(Arc::new(kernel));
            }
            ".shared" => {
                for (name, variable) in shared_variables(&mut cursor)? {
                    if variables.iter().any(|(known, _)| *known == name) {
                        return Err(ParseError { line, message: format!("`{name}` is declared twice") });
                    }
                    variables.push((name, variable));
                }
            }
            _ => return Err(ParseError { line, message: format!("`{word}` is not supported at module level") }),
        }
    }
    match module.version.is_empty() || module.target.is_empty() {
        true => cursor.error("the module lacks .version or .target"),
        false => Ok(module),
    }
}

fn version(cursor: &mut Cursor) -> Result<String, ParseError> {
    match cursor.next() {
        Token::Float(value) => Ok(format!("{value:.1}")),
        other => cursor.error(format!("found {other} as .version; expected such as 7.0")),
    }
}

/// Major, minor and whether code for the target runs on nothing else (`a`), of `sm_90a`.
pub(crate) fn capability(target: &str) -> Option<((u32, u32), bool)> {
    let number = target.strip_prefix("sm_")?;
    let (digits, specific) = number.strip_suffix('a').map_or((number, false), |digits| (digits, true));
    let number: u32 = digits.parse().ok()?;
    Some(((number / 10, number % 10), specific))
}

pub(crate) fn pragma(cursor: &mut Cursor) -> Result<(), ParseError> {
    match cursor.next() {
        Token::Text(_) => cursor.expect(';'),
        other => cursor.error(format!("found {other} as .pragma; expected a string")),
    }
}

/// What follows `.shared`: alignment, type, and names with their lengths.
pub(crate) fn shared_variables(cursor: &mut Cursor) -> Result<Vec<(String, Shared)>, ParseError> {
    let mut align = None;
    if cursor.accept_word(".align") {
        align = Some(u64::from(cursor.count()?));
    }
    let line = cursor.line();
    let name = cursor.word("a type")?;
    let ty = name.strip_prefix('.').and_then(Type::parse).filter(|ty| ty.bytes() > 0);
    let Some(ty) = ty else {
        return Err(ParseError { line, message: format!("found `{name}`; expected the type of a variable") });
    };
    let element = u64::from(ty.bytes());
    let align = align.unwrap_or(element);
    if !align.is_power_of_two() || align < element || align > 65_536 {
        return Err(ParseError {
            line,
            message: format!("found .align {align}; expected a power of two from {element} to 65536"),
        });
    }
    let mut variables = Vec::new();
    loop {
        let name = cursor.word("the name of a variable")?;
        let mut size = Some(element);
        while cursor.accept('[') {
            if cursor.accept(']') {
                size = None;
                break;
            }
            let length = u64::from(cursor.count()?);
            size = size.map(|size| size.saturating_mul(length));
            cursor.expect(']')?;
        }
        if size.is_some_and(|size| size > STATIC_SHARED) {
            return cursor
                .error(format!("`{name}` has more than {STATIC_SHARED} bytes, the most that static shared memory may have"));
        }
        variables.push((name, Shared { align, size, used: false }));
        if !cursor.accept(',') {
            cursor.expect(';')?;
            return Ok(variables);
        }
    }
}

fn parameters(cursor: &mut Cursor) -> Result<Vec<Param>, ParseError> {
    let mut params: Vec<Param> = Vec::new();
    if !cursor.accept('(') || cursor.accept(')') {
        return Ok(params);
    }
    let mut end = 0u32;
    loop {
        let line = cursor.line();
        if !cursor.accept_word(".param") {
            return cursor.error(format!("found {}; expected .param", cursor.peek()));
        }
        let mut align = None;
        if cursor.accept_word(".align") {
            align = Some(cursor.count()?);
        }
        let word = cursor.word("a type")?;
        let ty = word.strip_prefix('.').and_then(Type::parse).filter(|ty| ty.bytes() > 0);
        let Some(ty) = ty else {
            return Err(ParseError { line, message: format!("found `{word}`; expected the type of a parameter") });
        };
        let name = cursor.word("the name of a parameter")?;
        let mut size = ty.bytes();
        if cursor.accept('[') {
            size = size.saturating_mul(cursor.count()?);
            cursor.expect(']')?;
        }
        let align = align.unwrap_or(ty.bytes());
        if !align.is_power_of_two() || align > 4096 || size > 32_764 {
            return Err(ParseError { line, message: format!("the parameter `{name}` has alignment {align} and {size} bytes") });
        }
        let offset = end.next_multiple_of(align);
        end = offset + size;
        params.push(Param { name, offset, size, align });
        if !cursor.accept(',') {
            cursor.expect(')')?;
            return Ok(params);
        }
    }
}

/// One to three counts, multiplied; the missing ones are 1.
fn extents(cursor: &mut Cursor) -> Result<[u32; 3], ParseError> {
    let mut extents = [1; 3];
    extents[0] = cursor.count()?;
    for extent in &mut extents[1..] {
        if !cursor.accept(',') {
            break;
        }
        *extent = cursor.count()?;
    }
    Ok(extents)
}

fn entry(cursor: &mut Cursor, variables: &[(String, Shared)], target: &str, lines: &Arc<[String]>) -> Result<Kernel, ParseError> {
    let name = cursor.word("the name of the entry")?;
    let params = parameters(cursor)?;
    let (mut required, mut most) = (None, None);
    while !cursor.accept('{') {
        let line = cursor.line();
        match cursor.word("`{` or a directive of the entry")?.as_str() {
            ".reqntid" => required = Some(extents(cursor)?),
            ".maxntid" => most = Some(extents(cursor)?),
            ".minnctapersm" | ".maxnreg" => {
                cursor.count()?;
            }
            ".pragma" => pragma(cursor)?,
            other => return Err(ParseError { line, message: format!("`{other}` is not supported on an entry") }),
        }
    }
    let mut names = Names::new(variables);
    names.open();
    for (index, param) in params.iter().enumerate() {
        at(cursor.line(), names.declare_symbol(&param.name, Symbol::Param(index)))?;
    }
    let (mut names, code) = body::parse(cursor, names, &params)?;
    let (static_shared, addresses) = shared::layout(&names.shared);
    if u64::from(static_shared) > STATIC_SHARED {
        return cursor
            .error(format!("`{name}` has {static_shared} bytes of static shared memory; expected at most {STATIC_SHARED}"));
    }
    for content in &mut names.contents {
        if let Content::Shared(index, offset) = *content {
            *content = Content::Constant(addresses[index].wrapping_add(offset));
        }
    }
    let smallest_access = code.iter().filter_map(smallest).min().unwrap_or(4);
    Ok(Kernel {
        name,
        params,
        static_shared,
        required,
        most,
        target: target.into(),
        contents: names.contents,
        predicates: names.predicates,
        code,
        smallest_access,
        lines: lines.clone(),
    })
}

/// Bytes of an element of a memory access that is smaller than four.
fn smallest(instruction: &Instruction) -> Option<u32> {
    match &instruction.op {
        Op::Load(access) | Op::Store(access) => Some((access.ty.bytes() * u32::from(access.count)).min(4)),
        _ => None,
    }
}
