//! The small integer expressions of a recipe: `3*clip_width`, `2*sam_grid-1`, `i >= first_dense && i % moe_every == 0`, `i in globals`.
//!
//! Values are integers; truth is 1 and 0; `/` is PyTorch's `//` (floor); every step is checked for overflow. A name is a dim of the
//! recipe, `name[2]` or `name[i]` an item of one of its lists, from 0, `sum(name)` their sum, `len(name)` their number; `index_of(list, value)` is the first place
//! of a value in a list and `count_of(list, value)` how often it is there. Nothing else can be said, on purpose: a recipe is a table, not a
//! program.
//!
//! Precedence, loosest first: `||`, `&&`, comparisons and `in`, `+ -`, `* / %`, unary `! -`.

use std::collections::BTreeMap;
use std::fmt;

/// The longest expression, in bytes; it bounds the parser's recursion too.
const MAX_BYTE_LEN: usize = 200;

/// The values that expressions may name. `None` marks a name that exists but whose config field was wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dims {
    /// Single integers.
    pub ints: BTreeMap<String, Option<i128>>,
    /// Lists of integers.
    pub lists: BTreeMap<String, Option<Vec<i128>>>,
}

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvalError {
    /// It depends on a config field that was wrong (and has been reported).
    Unset,
    /// It has no value for these numbers.
    Bad(String),
}

impl fmt::Display for EvalError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => out.write_str("it depends on a config value that is wrong"),
            Self::Bad(why) => out.write_str(why),
        }
    }
}

/// A parsed expression; prints as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expr {
    text: String,
    node: Node,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Int(i128),
    Name(String),
    Item(String, Box<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Two(Op, Box<Node>, Box<Node>),
    In(Box<Node>, String),
    Sum(String),
    Len(String),
    Search(Search, String, Box<Node>),
}

/// A function of a list and a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    /// The first place of the value in the list, from 0.
    IndexOf,
    /// How often the value is in the list.
    CountOf,
}

impl Search {
    /// What it finds; `None` where the value has no place in the list.
    fn of(self, value: i128, list: &[i128]) -> Option<i128> {
        match self {
            Self::CountOf => Some(list.iter().filter(|&&item| item == value).count() as i128),
            Self::IndexOf => list.iter().position(|&item| item == value).map(|at| at as i128),
        }
    }
}

/// The functions by name.
const SEARCHES: [(&str, Search); 2] = [("index_of", Search::IndexOf), ("count_of", Search::CountOf)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Or,
    And,
    Eq,
    Ne,
    Le,
    Ge,
    Lt,
    Gt,
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

/// Binary operators by precedence, loosest first; longer spellings before their prefixes.
const LEVELS: [&[(&str, Op)]; 5] = [
    &[("||", Op::Or)],
    &[("&&", Op::And)],
    &[("==", Op::Eq), ("!=", Op::Ne), ("<=", Op::Le), (">=", Op::Ge), ("<", Op::Lt), (">", Op::Gt)],
    &[("+", Op::Add), ("-", Op::Sub)],
    &[("*", Op::Mul), ("/", Op::Div), ("%", Op::Rem)],
];
/// The level at which `in` stands beside the comparisons.
const COMPARISON_LEVEL: usize = 2;

impl Expr {
    /// Parses an expression.
    ///
    /// # Errors
    /// What was expected where, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTE_LEN {
            return Err(format!("{text:?}: expressions are at most {MAX_BYTE_LEN} bytes"));
        }
        let mut parser = Parser { text, at: 0 };
        let node = parser.level(0)?;
        if !parser.rest().is_empty() {
            return Err(parser.complaint("an operator or the end"));
        }
        Ok(Self { text: text.trim().to_owned(), node })
    }

    /// Every name it uses, as `(name, whether it is a list)`.
    pub fn names(&self) -> Vec<(&str, bool)> {
        let mut names = Vec::new();
        collect(&self.node, &mut names);
        names
    }

    /// Its value with these dims; `bound` gives the name `i` a value.
    ///
    /// # Errors
    /// [`EvalError`] when a name has no value, or the arithmetic none.
    pub fn eval(&self, dims: &Dims, bound: Option<i128>) -> Result<i128, EvalError> {
        eval(&self.node, dims, bound)
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

fn collect<'a>(node: &'a Node, names: &mut Vec<(&'a str, bool)>) {
    match node {
        Node::Int(_) => {}
        Node::Name(name) => names.push((name, false)),
        Node::Item(name, at) => {
            names.push((name, true));
            collect(at, names);
        }
        Node::Not(inner) | Node::Negate(inner) => collect(inner, names),
        Node::Two(_, left, right) => {
            collect(left, names);
            collect(right, names);
        }
        Node::In(inner, list) | Node::Search(_, list, inner) => {
            collect(inner, names);
            names.push((list, true));
        }
        Node::Sum(list) | Node::Len(list) => names.push((list, true)),
    }
}

fn eval(node: &Node, dims: &Dims, bound: Option<i128>) -> Result<i128, EvalError> {
    match node {
        Node::Int(value) => Ok(*value),
        Node::Name(name) => match (name.as_str(), bound) {
            ("i", Some(value)) => Ok(value),
            _ => dims.ints.get(name).copied().flatten().ok_or(EvalError::Unset),
        },
        Node::Item(name, at) => {
            let at = eval(at, dims, bound)?;
            let list = list_of(name, dims)?;
            let item = usize::try_from(at).ok().and_then(|at| list.get(at).copied());
            item.ok_or_else(|| EvalError::Bad(format!("{name}[{at}] of a list of {}", list.len())))
        }
        Node::Not(inner) => Ok(i128::from(eval(inner, dims, bound)? == 0)),
        Node::Negate(inner) => eval(inner, dims, bound)?.checked_neg().ok_or_else(overflow),
        Node::In(inner, name) => {
            let value = eval(inner, dims, bound)?;
            Ok(i128::from(list_of(name, dims)?.contains(&value)))
        }
        Node::Sum(name) => {
            let mut items = list_of(name, dims)?.iter();
            items.try_fold(0_i128, |sum, &item| sum.checked_add(item)).ok_or_else(overflow)
        }
        Node::Len(name) => Ok(list_of(name, dims)?.len() as i128),
        Node::Search(search, name, inner) => {
            let value = eval(inner, dims, bound)?;
            let list = list_of(name, dims)?;
            let none = || EvalError::Bad(format!("no {value} in {name}, a list of {}", list.len()));
            search.of(value, list).ok_or_else(none)
        }
        Node::Two(op, left, right) => {
            let left = eval(left, dims, bound)?;
            match (op, left) {
                (Op::Or, 1..) => return Ok(1),
                (Op::And, 0) => return Ok(0),
                _ => {}
            }
            apply(*op, left, eval(right, dims, bound)?)
        }
    }
}

fn list_of<'a>(name: &str, dims: &'a Dims) -> Result<&'a Vec<i128>, EvalError> {
    dims.lists.get(name).and_then(Option::as_ref).ok_or(EvalError::Unset)
}

fn overflow() -> EvalError {
    EvalError::Bad("a number too large".into())
}

fn apply(op: Op, left: i128, right: i128) -> Result<i128, EvalError> {
    let truth = |value: bool| Some(i128::from(value));
    let value = match op {
        Op::Or => truth(left != 0 || right != 0),
        Op::And => truth(left != 0 && right != 0),
        Op::Eq => truth(left == right),
        Op::Ne => truth(left != right),
        Op::Le => truth(left <= right),
        Op::Ge => truth(left >= right),
        Op::Lt => truth(left < right),
        Op::Gt => truth(left > right),
        Op::Add => left.checked_add(right),
        Op::Sub => left.checked_sub(right),
        Op::Mul => left.checked_mul(right),
        Op::Div | Op::Rem if right == 0 => {
            return Err(EvalError::Bad("a division by zero".into()));
        }
        Op::Div => left.checked_div_euclid(right),
        Op::Rem => left.checked_rem_euclid(right),
    };
    value.ok_or_else(overflow)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    /// What is left, without leading blanks.
    fn rest(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let trimmed = rest.trim_start();
        self.at += rest.len() - trimmed.len();
        trimmed
    }

    fn complaint(&mut self, expected: &str) -> String {
        let (text, found) = (self.text, self.rest());
        let found = if found.is_empty() { "the end" } else { found };
        format!("{text:?}: expected {expected}, found {found:?}")
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn level(&mut self, level: usize) -> Result<Node, String> {
        let Some(operators) = LEVELS.get(level) else {
            return self.unary();
        };
        let mut left = self.level(level + 1)?;
        loop {
            let found = operators.iter().find(|(token, _)| self.eat(token));
            if let Some((_, op)) = found {
                let right = self.level(level + 1)?;
                left = Node::Two(*op, Box::new(left), Box::new(right));
            } else if level == COMPARISON_LEVEL && self.word_ahead() == "in" {
                self.at += "in".len();
                let list = self.word()?;
                left = Node::In(Box::new(left), list);
            } else {
                return Ok(left);
            }
        }
    }

    fn unary(&mut self) -> Result<Node, String> {
        if self.eat("!") {
            return Ok(Node::Not(Box::new(self.unary()?)));
        }
        if self.eat("-") {
            return Ok(Node::Negate(Box::new(self.unary()?)));
        }
        if self.eat("(") {
            let node = self.level(0)?;
            return if self.eat(")") { Ok(node) } else { Err(self.complaint("a closing parenthesis")) };
        }
        if self.rest().starts_with(|c: char| c.is_ascii_digit()) {
            return self.integer().map(Node::Int);
        }
        let name = self.word()?;
        if matches!(&*name, "sum" | "len") && self.eat("(") {
            let list = self.word()?;
            let node = if name == "sum" { Node::Sum(list) } else { Node::Len(list) };
            return if self.eat(")") { Ok(node) } else { Err(self.complaint("a closing parenthesis")) };
        }
        if let Some((_, search)) = SEARCHES.iter().find(|(known, _)| *known == name)
            && self.eat("(")
        {
            return self.search(*search);
        }
        if !self.eat("[") {
            return Ok(Node::Name(name));
        }
        let at = self.level(0)?;
        if self.eat("]") { Ok(Node::Item(name, Box::new(at))) } else { Err(self.complaint("a closing bracket")) }
    }

    /// The rest of `index_of(list, value)` behind its parenthesis.
    fn search(&mut self, search: Search) -> Result<Node, String> {
        let list = self.word()?;
        if !self.eat(",") {
            return Err(self.complaint("a comma between the list and the value"));
        }
        let value = self.level(0)?;
        let node = Node::Search(search, list, Box::new(value));
        if self.eat(")") { Ok(node) } else { Err(self.complaint("a closing parenthesis")) }
    }

    fn integer(&mut self) -> Result<i128, String> {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let value = rest[..end].parse().map_err(|_| self.complaint("an integer"))?;
        self.at += end;
        Ok(value)
    }

    fn word_ahead(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    }

    fn word(&mut self) -> Result<String, String> {
        let word = self.word_ahead();
        if word.is_empty() || word.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.complaint("a name or a number"));
        }
        self.at += word.len();
        Ok(word.to_owned())
    }
}

#[cfg(test)]
mod tests;
