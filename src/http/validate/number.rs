//! Numbers and booleans, which may come as text.

use serde_json::{Value, json};

use super::{At, Checked};
use crate::http::json::{as_text, big_integer};

/// Digits beyond which the text of an integer is not looked at.
const INTEGER_TEXT_MAX: usize = 4300;

/// What an integer input is, before bounds.
enum Whole {
    Fits(i64),
    /// Beyond 64 bits, above or below.
    Above,
    Below,
}

impl At<'_> {
    /// An integer: a number without a fraction, its text, or a boolean.
    pub fn int(&self) -> Checked<i64> {
        match self.whole()? {
            Whole::Fits(number) => Ok(number),
            Whole::Above | Whole::Below => self.fault(
                "int_parsing_size",
                "Unable to parse input string as an integer, exceeded maximum size",
            ),
        }
    }

    /// An integer of at least `min` and at most `max`.
    pub fn int_in(&self, min: i64, max: i64) -> Checked<i64> {
        let number = match self.whole()? {
            Whole::Fits(number) => number,
            Whole::Above => i64::MAX,
            Whole::Below => i64::MIN,
        };
        if number > max {
            let item = self
                .item("less_than_equal", format!("Input should be less than or equal to {max}"));
            return Err(vec![item.with_ctx(json!({ "le": max }))]);
        }
        self.at_least(number, min)
    }

    /// A count that need not be small: not negative, read as `cap` when above it.
    ///
    /// Numbers beyond 64 bits are a fault: nobody means them.
    pub fn count(&self, cap: usize) -> Checked<usize> {
        let number = self.int()?;
        let number = self.at_least(number, 0)?;
        Ok(usize::try_from(number).unwrap_or(usize::MAX).min(cap))
    }

    fn at_least(&self, number: i64, min: i64) -> Checked<i64> {
        if number >= min {
            return Ok(number);
        }
        let message = format!("Input should be greater than or equal to {min}");
        let item = self.item("greater_than_equal", message);
        Err(vec![item.with_ctx(json!({ "ge": min }))])
    }

    fn whole(&self) -> Checked<Whole> {
        let signed = |negative| if negative { Whole::Below } else { Whole::Above };
        if let Some(digits) = big_integer(self.value) {
            return Ok(signed(digits.starts_with('-')));
        }
        match self.value {
            Value::Bool(flag) => Ok(Whole::Fits(i64::from(*flag))),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(number), _) => Ok(Whole::Fits(number)),
                (None, Some(number)) if number.fract() == 0.0 => Ok(float_as_whole(number)),
                _ => self.fault(
                    "int_from_float",
                    "Input should be a valid integer, got a number with a fractional part",
                ),
            },
            Value::String(text) => match text_as_whole(text) {
                Some(whole) => Ok(whole),
                None => self.fault(
                    "int_parsing",
                    "Input should be a valid integer, unable to parse string as an integer",
                ),
            },
            _ => self.fault("int_type", "Input should be a valid integer"),
        }
    }

    /// A number from `min` to `max`, its text, or a boolean. Not a number is out of any bounds.
    pub fn float_in(&self, min: f64, max: f64) -> Checked<f64> {
        let number = self.float()?;
        if number <= max && number >= min {
            return Ok(number);
        }
        let (kind, word, bound, name) = if number < min {
            ("greater_than_equal", "greater", min, "ge")
        } else {
            ("less_than_equal", "less", max, "le")
        };
        let item = self.item(kind, format!("Input should be {word} than or equal to {bound}"));
        Err(vec![item.with_ctx(json!({ name: bound }))])
    }

    fn float(&self) -> Checked<f64> {
        let text = big_integer(self.value).or_else(|| as_text(self.value));
        let parsed = match (self.value, text) {
            (_, Some(text)) => text.trim().parse().ok(),
            (Value::Number(number), _) => number.as_f64(),
            (Value::Bool(flag), _) => Some(f64::from(u8::from(*flag))),
            _ => return self.fault("float_type", "Input should be a valid number"),
        };
        match parsed {
            Some(number) => Ok(number),
            None => self.fault(
                "float_parsing",
                "Input should be a valid number, unable to parse string as a number",
            ),
        }
    }

    /// A boolean, one of the usual words for it in any case, or the numbers 0 and 1.
    pub fn bool(&self) -> Checked<bool> {
        let meaning = match self.value {
            Value::Bool(flag) => Some(*flag),
            Value::String(word) => match word.to_ascii_lowercase().as_str() {
                "1" | "on" | "t" | "true" | "y" | "yes" => Some(true),
                "0" | "off" | "f" | "false" | "n" | "no" => Some(false),
                _ => None,
            },
            Value::Number(number) => match number.as_f64() {
                Some(1.0) => Some(true),
                Some(0.0) => Some(false),
                Some(number) if number.fract() != 0.0 => {
                    return self.fault("bool_type", "Input should be a valid boolean");
                }
                _ => None,
            },
            _ => return self.fault("bool_type", "Input should be a valid boolean"),
        };
        match meaning {
            Some(flag) => Ok(flag),
            None => self.fault(
                "bool_parsing",
                "Input should be a valid boolean, unable to interpret input",
            ),
        }
    }
}

/// A float without a fraction. The bounds are exact in f64: 2^63 is out, -2^63 is in.
fn float_as_whole(number: f64) -> Whole {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if number >= LIMIT {
        Whole::Above
    } else if number < -LIMIT {
        Whole::Below
    } else {
        Whole::Fits(number as i64)
    }
}

/// An integer in text: blanks around it, a sign, single underscores between digits and a
/// fraction of zeros are all fine.
fn text_as_whole(text: &str) -> Option<Whole> {
    let text = text.trim();
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = match rest.split_once('.') {
        Some((digits, zeros)) if !zeros.is_empty() && zeros.bytes().all(|b| b == b'0') => digits,
        Some(_) => return None,
        None => rest,
    };
    let parts = || digits.split('_');
    if digits.len() > INTEGER_TEXT_MAX
        || !parts().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    {
        return None;
    }
    let digits: String = parts().collect();
    let signed = if negative { format!("-{digits}") } else { digits };
    Some(match signed.parse() {
        Ok(number) => Whole::Fits(number),
        Err(_) if negative => Whole::Below,
        Err(_) => Whole::Above,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::http::json::parse;

    fn kind<T: std::fmt::Debug>(checked: Checked<T>) -> Value {
        checked.expect_err("a fault")[0].to_value()["type"].clone()
    }

    fn big(text: &str) -> Value {
        parse(text.as_bytes()).expect("an integer").value
    }

    #[test]
    fn integers_are_lenient() {
        for value in [json!(5), json!(5.0), json!("5"), json!(" +5 "), json!("5.00"), json!("0_05")]
        {
            assert_eq!(At::body(&value).int(), Ok(5), "{value}");
        }
        assert_eq!(At::body(&json!(true)).int(), Ok(1));
    }

    #[test]
    fn what_is_no_integer_says_why() {
        for (value, expected) in [
            (json!(2.5), "int_from_float"),
            (json!("x"), "int_parsing"),
            (json!(""), "int_parsing"),
            (json!("5.5"), "int_parsing"),
            (json!("5."), "int_parsing"),
            (json!("1__0"), "int_parsing"),
            (json!("--1"), "int_parsing"),
            (json!(null), "int_type"),
            (json!([]), "int_type"),
            (json!("99999999999999999999"), "int_parsing_size"),
            (json!(1e300), "int_parsing_size"),
            (big("-99999999999999999999"), "int_parsing_size"),
        ] {
            assert_eq!(kind(At::body(&value).int()), expected, "{value}");
        }
    }

    #[test]
    fn bounds_hold_beyond_64_bits() {
        assert_eq!(kind(At::body(&big("99999999999999999999")).int_in(1, 9)), "less_than_equal");
        assert_eq!(
            kind(At::body(&big("-99999999999999999999")).int_in(1, 9)),
            "greater_than_equal"
        );
        assert_eq!(kind(At::body(&json!(-1)).count(10)), "greater_than_equal");
        assert_eq!(At::body(&json!("50")).count(10), Ok(10));
    }

    #[test]
    fn float_bounds_are_named_without_and_given_with_a_fraction() {
        let item = At::body(&json!(1.5)).float_in(0.0, 1.0).expect_err("too much")[0].to_value();
        assert_eq!(item["msg"], "Input should be less than or equal to 1");
        assert_eq!(item["ctx"].to_string(), "{\"le\":1.0}");
        assert_eq!(At::body(&json!("0.5")).float_in(0.0, 1.0), Ok(0.5));
        assert_eq!(kind(At::body(&json!("nan")).float_in(0.0, 1.0)), "less_than_equal");
        assert_eq!(kind(At::body(&json!("x")).float_in(0.0, 1.0)), "float_parsing");
        assert_eq!(kind(At::body(&json!({})).float_in(0.0, 1.0)), "float_type");
        assert_eq!(
            kind(At::body(&big("99999999999999999999")).float_in(0.0, 1.0)),
            "less_than_equal"
        );
    }

    #[test]
    fn booleans_come_in_many_words() {
        for (value, flag) in [
            (json!("Yes"), true),
            (json!("on"), true),
            (json!(1.0), true),
            (json!("F"), false),
            (json!(0), false),
        ] {
            assert_eq!(At::body(&value).bool(), Ok(flag), "{value}");
        }
        for (value, expected) in [
            (json!("perhaps"), "bool_parsing"),
            (json!(2), "bool_parsing"),
            (json!(0.5), "bool_type"),
            (json!(null), "bool_type"),
        ] {
            assert_eq!(kind(At::body(&value).bool()), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn every_integer_survives_its_text(number in any::<i64>()) {
            prop_assert_eq!(At::query(&json!(number.to_string())).int(), Ok(number));
            prop_assert_eq!(At::query(&json!(number)).int(), Ok(number));
        }
    }
}
