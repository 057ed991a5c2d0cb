//! `numeric` in the server's binary form: a header and groups of four decimal digits, without a detour through text.

/// Powers of ten that fit 64 bits and are used here.
const TEN_TO_16: u128 = 10_000_000_000_000_000;
/// Groups of four digits that 39 digits and an incomplete group have at most.
const MOST_GROUPS: usize = 11;

/// How values of one scale are cut into groups. Groups are counted from the decimal point, so the last one may hold fewer digits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numeric {
    scale: u8,
    /// What divides a value into its last group and the rest: 10, 100, 1,000 or 10,000.
    unit: u64,
    /// What the last group is multiplied with to have four digits.
    lift: u64,
    /// Groups behind the point.
    fraction: i16,
    /// The least magnitudes of two groups, three and so on.
    bounds: [u64; 5],
    wide_bounds: [u128; MOST_GROUPS],
}

impl Numeric {
    pub(super) fn new(scale: u8) -> Self {
        let digits = match scale % 4 {
            0 => 4,
            some => u32::from(some),
        };
        let bound = |at: u32| 10_u128.checked_pow(digits + 4 * at).unwrap_or(u128::MAX);
        let wide_bounds = std::array::from_fn(|at| bound(u32::try_from(at).unwrap_or(u32::MAX)));
        let bounds = std::array::from_fn(|at| u64::try_from(wide_bounds[at]).unwrap_or(u64::MAX));
        Self { scale, unit: 10_u64.pow(digits), lift: 10_u64.pow(4 - digits), fraction: i16::from(scale.div_ceil(4)), bounds, wide_bounds }
    }

    /// How many groups a value has.
    #[inline]
    pub(super) fn groups(&self, value: i128) -> usize {
        let magnitude = value.unsigned_abs();
        match u64::try_from(magnitude) {
            Ok(0) => 0,
            Ok(magnitude) if magnitude < u64::MAX => 1 + self.bounds.iter().map(|bound| usize::from(magnitude >= *bound)).sum::<usize>(),
            _ => 1 + self.wide_bounds.iter().map(|bound| usize::from(magnitude >= *bound)).sum::<usize>(),
        }
    }

    /// Writes length, header and groups; says how many bytes that were.
    #[inline]
    pub(super) fn write(&self, value: i128, out: &mut [u8]) -> usize {
        let groups = self.groups(value);
        let size = 12 + 2 * groups;
        let out = &mut out[..size];
        #[expect(clippy::cast_possible_truncation, reason = "at most 12 groups")]
        let (length, count) = ((size - 4) as u32, groups as i16);
        let weight = if groups == 0 { 0 } else { count - 1 - self.fraction };
        let sign: u16 = if value < 0 { 0x4000 } else { 0 };
        out[..4].copy_from_slice(&length.to_be_bytes());
        out[4..6].copy_from_slice(&count.to_be_bytes());
        out[6..8].copy_from_slice(&weight.to_be_bytes());
        out[8..10].copy_from_slice(&sign.to_be_bytes());
        out[10..12].copy_from_slice(&u16::from(self.scale).to_be_bytes());
        if groups > 0 {
            self.write_groups(value.unsigned_abs(), &mut out[12..]);
        }
        size
    }

    #[inline]
    fn write_groups(&self, magnitude: u128, groups: &mut [u8]) {
        let mut groups = groups.rchunks_exact_mut(2);
        let mut put = |group: u64| {
            if let Some(place) = groups.next() {
                #[expect(clippy::cast_possible_truncation, reason = "a group is less than 10,000")]
                place.copy_from_slice(&(group as u16).to_be_bytes());
            }
        };
        let mut rest = match u64::try_from(magnitude) {
            Ok(magnitude) => {
                put(magnitude % self.unit * self.lift);
                magnitude / self.unit
            }
            Err(_) => {
                let unit = u128::from(self.unit);
                #[expect(clippy::cast_possible_truncation, reason = "a remainder is less than its divisor")]
                put((magnitude % unit) as u64 * self.lift);
                let mut wide = magnitude / unit;
                while wide > u128::from(u64::MAX) {
                    let mut four = (wide % TEN_TO_16) as u64;
                    wide /= TEN_TO_16;
                    for _ in 0..4 {
                        put(four % 10_000);
                        four /= 10_000;
                    }
                }
                #[expect(clippy::cast_possible_truncation, reason = "it was just found to fit")]
                let rest = wide as u64;
                rest
            }
        };
        while rest > 0 {
            put(rest % 10_000);
            rest /= 10_000;
        }
    }
}
