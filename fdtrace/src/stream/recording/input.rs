//! Numbers in as many bytes as they need: seven bits a byte, the lowest first, as DWARF's LEB128.

/// The bytes end in the middle of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended;

/// Bytes that are read from the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn byte(&mut self) -> Result<u8, Ended> {
        let (byte, rest) = self.0.split_first().ok_or(Ended)?;
        self.0 = rest;
        Ok(*byte)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Ended> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Ended)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// A number; bits beyond 32 are dropped, and a byte beyond the fifth belongs to the next number.
    pub(super) fn number(&mut self) -> Result<u32, Ended> {
        let mut number = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            number |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Ok(number)
    }

    /// A number that can be negative.
    pub(super) fn signed(&mut self) -> Result<i32, Ended> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -((number & 1).cast_signed()))
    }
}

/// Writes a number.
pub(super) fn put(output: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        let [low, ..] = number.to_le_bytes();
        output.push(low | 0x80);
        number >>= 7;
    }
    let [low, ..] = number.to_le_bytes();
    output.push(low);
}

/// Writes a count of something that is in memory, and far less than 2³².
pub(super) fn put_count(output: &mut Vec<u8>, count: usize) {
    put(output, u32::try_from(count).unwrap_or(u32::MAX));
}

/// Writes a number that can be negative: those near 0 are short, whatever their sign.
pub(super) fn put_signed(output: &mut Vec<u8>, number: i32) {
    put(output, ((number << 1) ^ (number >> 31)).cast_unsigned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let mut bytes = Vec::new();
        let numbers = [0, 1, 127, 128, 300, 1 << 21, u32::MAX];
        let signed = [0, -1, 1, -64, 64, i32::MIN, i32::MAX];
        for number in numbers {
            put(&mut bytes, number);
        }
        for number in signed {
            put_signed(&mut bytes, number);
        }
        let mut input = Input(&bytes);
        assert_eq!(numbers.map(|_| input.number().unwrap()), numbers);
        assert_eq!(signed.map(|_| input.signed().unwrap()), signed);
        assert_eq!(input.number(), Err(Ended));
    }

    #[test]
    fn small_numbers_take_one_byte() {
        let mut bytes = Vec::new();
        put(&mut bytes, 127);
        put_signed(&mut bytes, -64);
        assert_eq!(bytes.len(), 2);
    }
}
