//! Numbers as expressions over config fields: all that give the right number in every example are looked at, the likeliest is taken.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::fields::{Atom, Context, Field, affinity, is_usual};

/// What a number is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    /// As a recipe spells it.
    pub text: String,
    /// The fields it uses.
    pub fields: BTreeSet<usize>,
    /// Others that give the same number and are about as likely.
    pub others: Vec<String>,
    /// No field gives it: the number itself stands there.
    pub constant: bool,
}

/// The most examples.
const MAX_EXAMPLES: usize = 2;
/// A number in each example that has it, in order; 0 beyond.
type Values = [u64; MAX_EXAMPLES];

/// What an operation costs, and an atom that nothing speaks for.
const OPERATION: i32 = 4;
const ATOM: i32 = 10;
/// What a number costs that no field gives.
const CONSTANT: i32 = 60;
/// What a factor costs that is a number: a field says the same more often.
const FACTOR: i32 = 12;
/// Candidates that are dearer than the best by more than this are not listed.
const NEAR: i32 = 18;

/// Everything a number may be looked up in, for each set of examples that may have it.
#[derive(Debug)]
pub struct Sizes<'a> {
    fields: &'a [Field],
    atoms: Vec<Atom>,
    products: BTreeMap<Vec<bool>, Products>,
}

/// The atoms that some examples have, and products of at most two of them and a small number.
#[derive(Debug, Default)]
struct Products {
    atoms: Vec<(usize, Values)>,
    terms: Vec<Term>,
    /// Those of one atom.
    small: Vec<usize>,
    by_values: HashMap<Values, Vec<usize>>,
}

#[derive(Debug, Clone)]
struct Term {
    values: Values,
    atoms: Vec<usize>,
    factor: u64,
}

/// A way to write a number, with what it costs.
#[derive(Debug, Clone)]
struct Candidate {
    text: String,
    atoms: Vec<usize>,
    cost: i32,
}

impl<'a> Sizes<'a> {
    /// All integers of the fields.
    pub fn new(fields: &'a [Field]) -> Self {
        Self { fields, atoms: super::fields::atoms(fields), products: BTreeMap::new() }
    }

    /// The likeliest expression for a number that is this in each example (`None` where the example does not have it).
    pub fn express(&mut self, values: &[Option<u64>], context: &Context<'_>) -> Expression {
        let there: Vec<bool> = values.iter().map(Option::is_some).collect();
        let mut wanted = [0; MAX_EXAMPLES];
        let known = values.iter().copied().flatten().collect::<Vec<u64>>();
        wanted.iter_mut().zip(&known).for_each(|(to, from)| *to = *from);
        self.products.entry(there.clone()).or_insert_with(|| Products::new(self.fields, &self.atoms, &there));
        let costs = self.atoms.iter().map(|atom| ATOM - affinity(&self.fields[atom.field], context)).collect();
        let products = &self.products[&there];
        let search = Search { atoms: &self.atoms, products, costs, examples: known.len(), found: Vec::new() };
        self.chosen(search.all(wanted))
    }

    fn chosen(&self, mut found: Vec<Candidate>) -> Expression {
        found.sort_by(|a, b| (a.cost, a.text.len(), &a.text).cmp(&(b.cost, b.text.len(), &b.text)));
        let Some(first) = found.first().cloned() else {
            return Expression { text: "0".to_owned(), fields: BTreeSet::new(), others: Vec::new(), constant: true };
        };
        let mut others: Vec<String> = Vec::new();
        for other in &found[1..] {
            let near = other.cost <= first.cost + NEAR && !other.atoms.is_empty() && !first.atoms.is_empty();
            let same = other.atoms == first.atoms || others.contains(&other.text) || other.text == first.text;
            if near && !same && others.len() < 3 {
                others.push(other.text.clone());
            }
        }
        let fields = first.atoms.iter().map(|&atom| self.atoms[atom].field).collect();
        Expression { text: first.text, fields, others, constant: first.atoms.is_empty() && first.cost >= CONSTANT }
    }
}

impl Products {
    fn new(fields: &[Field], atoms: &[Atom], there: &[bool]) -> Self {
        let mut all = Self::default();
        for (at, atom) in atoms.iter().enumerate() {
            let mut values = [0; MAX_EXAMPLES];
            let own = atom.values.iter().zip(there).filter(|(_, there)| **there).map(|(value, _)| *value);
            let known = own.zip(&mut values).all(|(value, to)| {
                *to = value.unwrap_or(0);
                *to > 0
            });
            // What is one everywhere multiplies and divides anything: only fields that sizes are made of may.
            if known && (values.iter().any(|&value| value > 1) || is_usual(&fields[atom.field])) {
                all.atoms.push((at, values));
            }
        }
        for (at, (one, own)) in all.atoms.iter().enumerate() {
            for factor in 1..=4 {
                all.small.push(all.terms.len());
                all.terms.push(Term { values: own.map(|value| value * factor), atoms: vec![*one], factor });
            }
            for (other, values) in &all.atoms[at..] {
                for factor in 1..=3 {
                    let mut product = *own;
                    product.iter_mut().zip(values).for_each(|(a, b)| *a = a.saturating_mul(*b).saturating_mul(factor));
                    all.terms.push(Term { values: product, atoms: vec![*one, *other], factor });
                }
            }
        }
        for (at, term) in all.terms.iter().enumerate() {
            all.by_values.entry(term.values).or_default().push(at);
        }
        all
    }
}

/// One number being looked up.
struct Search<'a> {
    atoms: &'a [Atom],
    products: &'a Products,
    /// Of each atom, at the place where the number stands.
    costs: Vec<i32>,
    /// How many examples have the number.
    examples: usize,
    found: Vec<Candidate>,
}

impl Search<'_> {
    fn all(mut self, wanted: Values) -> Vec<Candidate> {
        self.constant(wanted);
        self.terms(wanted, "", 0);
        for (text, atoms, operations) in self.sums(wanted, false) {
            self.push(text, atoms, operations);
        }
        if self.best() > 2 * ATOM {
            self.nested(wanted);
        }
        // Of one example nearly any number is a sum of three products of something.
        if self.best() >= CONSTANT && self.examples > 1 {
            self.three(wanted);
        }
        self.found
    }

    fn best(&self) -> i32 {
        self.found.iter().map(|candidate| candidate.cost).min().unwrap_or(i32::MAX)
    }

    fn push(&mut self, text: String, atoms: Vec<usize>, operations: i32) {
        let cost = atoms.iter().map(|&atom| self.costs[atom]).sum::<i32>() + operations;
        self.found.push(Candidate { text, atoms, cost });
    }

    /// The values changed one by one; `None` where one cannot be.
    fn each(&self, values: Values, other: Values, change: impl Fn(u64, u64) -> Option<u64>) -> Option<Values> {
        let mut made = [0; MAX_EXAMPLES];
        for at in 0..self.examples {
            made[at] = change(values[at], other[at])?;
        }
        Some(made)
    }

    fn of(&self, values: Values) -> &[usize] {
        self.products.by_values.get(&values).map_or(&[], Vec::as_slice)
    }

    /// The number itself: likely where it is small, the last resort where it is not.
    fn constant(&mut self, wanted: Values) {
        let first = wanted[0];
        if wanted[..self.examples].iter().any(|other| *other != first) {
            return;
        }
        let cost = match first {
            0 | 1 => 0,
            2 | 3 => 8,
            4 => 11,
            _ => CONSTANT,
        };
        self.found.push(Candidate { text: first.to_string(), atoms: Vec::new(), cost });
    }

    fn term(&self, at: usize) -> (String, Vec<usize>, i32) {
        let term = &self.products.terms[at];
        let mut parts: Vec<String> = term.atoms.iter().map(|&atom| self.atoms[atom].text.clone()).collect();
        if term.factor > 1 {
            parts.insert(0, term.factor.to_string());
        }
        // A square is rare, too.
        let square = matches!(term.atoms[..], [one, other] if one == other);
        let dearer = if term.factor > 1 || square { FACTOR } else { 0 };
        (parts.join(" * "), term.atoms.clone(), (parts.len() as i32 - 1) * OPERATION + dearer)
    }

    /// Terms, and quotients of a term and an atom or a small number, with more behind them.
    fn terms(&mut self, wanted: Values, more: &str, dearer: i32) {
        let mut found = Vec::new();
        if more.is_empty() {
            found.extend(self.of(wanted).iter().map(|&at| self.term(at)));
        }
        for (divisor, values) in &self.products.atoms {
            let Some(whole) = self.each(wanted, *values, u64::checked_mul) else { continue };
            for &at in self.of(whole) {
                let (text, mut atoms, operations) = self.term(at);
                if !atoms.contains(divisor) {
                    atoms.push(*divisor);
                    found.push((format!("{text} / {}", self.atoms[*divisor].text), atoms, operations + OPERATION));
                }
            }
        }
        for number in 2..=4 {
            let Some(whole) = self.each(wanted, [number; MAX_EXAMPLES], u64::checked_mul) else { continue };
            for &at in self.of(whole).iter().filter(|&&at| self.products.terms[at].factor == 1) {
                let (text, atoms, operations) = self.term(at);
                found.push((format!("{text} / {number}"), atoms, operations + OPERATION + FACTOR));
            }
        }
        for (text, atoms, operations) in found {
            self.push(format!("{text}{more}"), atoms, operations + dearer);
        }
    }

    /// Sums and differences of two terms (`small`: of one atom each), or of a term and a small number.
    fn sums(&self, wanted: Values, small: bool) -> Vec<(String, Vec<usize>, i32)> {
        let terms = &self.products.terms;
        let all: Vec<usize> = if small { self.products.small.clone() } else { (0..terms.len()).collect() };
        let fits = |at: &&usize| !small || terms[**at].atoms.len() == 1;
        let mut found = Vec::new();
        for one in all {
            let values = terms[one].values;
            if let Some(rest) = self.each(wanted, values, |a, b| a.checked_sub(b).filter(|&rest| rest > 0)) {
                let another = |other: &&usize| **other > one && terms[**other].atoms != terms[one].atoms;
                for &other in self.of(rest).iter().filter(fits).filter(another) {
                    let ((a, mut atoms, n), (b, more, m)) = (self.term(one), self.term(other));
                    atoms.extend(more);
                    found.push((format!("{a} + {b}"), atoms, n + m + OPERATION));
                }
                if rest[0] <= 4 && rest[..self.examples].iter().all(|&other| other == rest[0]) {
                    let (a, atoms, n) = self.term(one);
                    found.push((format!("{a} + {}", rest[0]), atoms, n + OPERATION + FACTOR));
                }
            }
            if terms[one].atoms.len() > 1 || terms[one].factor > 1 {
                continue;
            }
            let Some(more) = self.each(wanted, values, u64::checked_add) else { continue };
            for &other in self.of(more).iter().filter(fits) {
                let ((b, own, m), (a, mut atoms, n)) = (self.term(one), self.term(other));
                atoms.extend(own);
                found.push((format!("{a} - {b}"), atoms, n + m + OPERATION + FACTOR));
            }
        }
        found
    }

    /// A product of an atom and a sum.
    fn nested(&mut self, wanted: Values) {
        let mut found = Vec::new();
        for (one, values) in &self.products.atoms {
            let divided = self.each(wanted, *values, |a, b| a.is_multiple_of(b).then(|| a / b));
            let Some(rest) = divided.filter(|rest| rest[..self.examples].iter().any(|&value| value != 1)) else {
                continue;
            };
            for (text, mut atoms, operations) in self.sums(rest, true) {
                atoms.push(*one);
                found.push((format!("{} * ({text})", self.atoms[*one].text), atoms, operations + OPERATION));
            }
        }
        for (text, atoms, operations) in found {
            self.push(text, atoms, operations);
        }
        // How many queries share a key, and what stands beside them: `heads / kv_heads + 2`.
        for number in 1..=3 {
            let rest = self.each(wanted, [number; MAX_EXAMPLES], |a, b| a.checked_sub(b).filter(|&rest| rest > 0));
            if let Some(rest) = rest {
                self.terms(rest, &format!(" + {number}"), OPERATION);
            }
        }
    }

    /// A sum of three terms, the first of fields that something speaks for: the others are too many.
    fn three(&mut self, wanted: Values) {
        let mut found = Vec::new();
        for (at, term) in self.products.terms.iter().enumerate() {
            if !term.atoms.iter().all(|&atom| self.costs[atom] < ATOM) {
                continue;
            }
            let rest = self.each(wanted, term.values, |a, b| a.checked_sub(b).filter(|&rest| rest > 0));
            let Some(rest) = rest else { continue };
            let (a, own, n) = self.term(at);
            for (text, mut atoms, operations) in self.sums(rest, true).into_iter().filter(|sum| !sum.0.contains('-')) {
                atoms.extend(own.clone());
                found.push((format!("{a} + {text}"), atoms, n + operations + OPERATION));
            }
        }
        for (text, atoms, operations) in found {
            self.push(text, atoms, operations);
        }
    }
}
