//! The letters that stand for bytes in GPT-2's vocabularies: printable bytes for themselves, the
//! others for the letters from U+0100 on, in order.

/// The byte that `letter` stands for.
fn byte(letter: char) -> Option<u8> {
    let code = u32::from(letter);
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => u8::try_from(code).ok(),
        // 0 to 32, then 127 to 160, then 173.
        0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// The bytes that `token` stands for. A letter that stands for none is taken as it is.
pub(super) fn spoken(token: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(token.len());
    for letter in token.chars() {
        match byte(letter) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend(letter.to_string().into_bytes()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_letter() {
        let mut found: Vec<u8> = ('!'..'\u{150}').filter_map(byte).collect();
        found.sort_unstable();
        assert_eq!(found, (0..=255).collect::<Vec<u8>>());
        let mut letters: Vec<char> =
            tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
        letters.sort_unstable();
        assert!(letters.iter().all(|letter| byte(*letter).is_some()), "{letters:?}");
    }

    #[test]
    fn letters_become_bytes() {
        assert_eq!(spoken("ĠMarch"), b" March");
        assert_eq!(spoken("Ã¤Ċ"), "ä\n".as_bytes());
        assert_eq!(spoken("\u{2581}"), "\u{2581}".as_bytes());
    }
}
