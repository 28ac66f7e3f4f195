//! QR codes of a payment: what they say, and how they look as SVG and PNG.

use std::fmt::Write as _;
use std::str::FromStr;

use cryptopay_domain::address::{AccountAddress, Asset};
use cryptopay_domain::units::Units;
use qrcode::{Color, EcLevel, QrCode};

/// Modules of white around the code: the standard's minimum, without which scanners fail.
const QUIET_ZONE: usize = 4;
/// Pixels of a module's side: enough for a cheap camera at arm's length.
const MODULE_PIXELS: usize = 8;

/// What a code may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Content {
    /// The receiving address alone: what every wallet and exchange understands.
    #[default]
    Address,
    /// An EIP-681 payment request with chain and amount. Simple scanners take its first address for the receiver's, which
    /// in a token's request is the token contract; money sent there is lost.
    Uri,
}

/// A text that names no content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of: address, uri")]
pub struct UnknownContent;

impl FromStr for Content {
    type Err = UnknownContent;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "address" => Ok(Self::Address),
            "uri" => Ok(Self::Uri),
            _ => Err(UnknownContent),
        }
    }
}

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub enum QrError {
    /// The text does not fit into a code (about 2,300 bytes).
    #[error("the text does not fit into a QR code: {0}")]
    Text(#[from] qrcode::types::QrError),
    /// The picture could not be written.
    #[error("the QR code could not be written as PNG: {0}")]
    Png(#[from] png::EncodingError),
    /// The picture's sides do not fit into PNG's numbers.
    #[error("the QR code is too large for a PNG")]
    TooLarge,
}

/// The text of the code for a payment of `due` to `to`; `chain_id` is EIP-155's.
pub fn content(content: Content, to: AccountAddress, asset: Asset, chain_id: u64, due: Units) -> String {
    match (content, asset) {
        (Content::Address, _) => to.to_string(),
        (Content::Uri, Asset::Native) => format!("ethereum:{to}@{chain_id}?value={}", due.0),
        (Content::Uri, Asset::Token(token)) => {
            format!("ethereum:{token}@{chain_id}/transfer?address={to}&uint256={}", due.0)
        }
    }
}

/// The code as a square SVG picture, black on white whatever it lies on. It stands alone or inside HTML.
pub fn svg(text: &str) -> Result<String, QrError> {
    let modules = Modules::encode(text)?;
    let side = modules.side();
    let pixels = side.saturating_mul(MODULE_PIXELS);
    let mut path = String::new();
    for (y, row) in modules.rows().enumerate() {
        let mut x = 0_usize;
        // Neighbours in a row are one rectangle: shorter, and without hairlines between them.
        for run in row.chunk_by(|a, b| a == b) {
            if run.first() == Some(&true) {
                // Writing to a string does not fail.
                let _ = write!(path, "M{x} {y}h{len}v1h-{len}z", len = run.len());
            }
            x = x.saturating_add(run.len());
        }
    }
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{pixels}\" height=\"{pixels}\" viewBox=\"0 0 {side} {side}\" \
         shape-rendering=\"crispEdges\"><path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/><path fill=\"#000\" d=\"{path}\"/></svg>"
    ))
}

/// The code as a square PNG picture: 8 pixels a module, 8-bit grey.
pub fn png(text: &str) -> Result<Vec<u8>, QrError> {
    let modules = Modules::encode(text)?;
    let pixels = modules.side().saturating_mul(MODULE_PIXELS);
    let side = u32::try_from(pixels).map_err(|_| QrError::TooLarge)?;
    let mut grey = Vec::with_capacity(pixels.saturating_mul(pixels));
    for row in modules.rows() {
        let line: Vec<u8> =
            row.iter().flat_map(|dark| std::iter::repeat_n(if *dark { 0 } else { u8::MAX }, MODULE_PIXELS)).collect();
        for _ in 0..MODULE_PIXELS {
            grey.extend_from_slice(&line);
        }
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&grey)?;
    writer.finish()?;
    Ok(file)
}

/// The modules of a code with its quiet zone; true is dark.
struct Modules {
    side: usize,
    dark: Vec<bool>,
}

impl Modules {
    fn encode(text: &str) -> Result<Self, QrError> {
        // Level M survives a scratched or glaring screen without growing the code much.
        let code = QrCode::with_error_correction_level(text, EcLevel::M)?;
        let side = code.width().saturating_add(2 * QUIET_ZONE);
        let light = |count: usize| std::iter::repeat_n(false, count);
        let mut dark: Vec<bool> = light(QUIET_ZONE.saturating_mul(side)).collect();
        for row in code.to_colors().chunks(code.width()) {
            dark.extend(light(QUIET_ZONE));
            dark.extend(row.iter().map(|color| *color == Color::Dark));
            dark.extend(light(QUIET_ZONE));
        }
        dark.extend(light(QUIET_ZONE.saturating_mul(side)));
        Ok(Self { side, dark })
    }

    /// Modules on a side, quiet zone included.
    fn side(&self) -> usize {
        self.side
    }

    fn rows(&self) -> impl Iterator<Item = &[bool]> {
        self.dark.chunks(self.side)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    const USDC: &str = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913";

    fn decode(file: &[u8]) -> (usize, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut grey = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut grey).unwrap();
        assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Grayscale, png::BitDepth::Eight));
        assert_eq!(info.width, info.height);
        (usize::try_from(info.width).unwrap(), grey)
    }

    #[test]
    fn an_address_is_written_with_its_checksum() {
        let lower: AccountAddress = TO.to_lowercase().parse().unwrap();
        assert_eq!(content(Content::Address, lower, Asset::Native, 1, Units::new(1)), TO);
    }

    #[test]
    fn payment_requests_follow_eip_681() {
        let to = TO.parse().unwrap();
        assert_eq!(
            content(Content::Uri, to, Asset::Native, 1, Units::new(2_014_000_000_000_000_000)),
            format!("ethereum:{TO}@1?value=2014000000000000000")
        );
        assert_eq!(
            content(Content::Uri, to, Asset::Token(USDC.parse().unwrap()), 8453, Units::new(99_997_300)),
            format!("ethereum:{USDC}@8453/transfer?address={TO}&uint256=99997300")
        );
    }

    #[test]
    fn the_words_of_the_query_are_the_contents() {
        assert_eq!("address".parse(), Ok(Content::Address));
        assert_eq!("uri".parse(), Ok(Content::Uri));
        assert_eq!("URL".parse::<Content>(), Err(UnknownContent));
    }

    #[test]
    fn the_png_shows_the_code_inside_a_white_border() {
        let code = QrCode::with_error_correction_level(TO, EcLevel::M).unwrap();
        let (pixels, grey) = decode(&png(TO).unwrap());
        assert_eq!(pixels, (code.width() + 8) * MODULE_PIXELS);
        for (index, grey) in grey.iter().enumerate() {
            let (x, y) = (index % pixels / MODULE_PIXELS, index / pixels / MODULE_PIXELS);
            let inside = |at: usize| (QUIET_ZONE..QUIET_ZONE + code.width()).contains(&at);
            let dark = inside(x) && inside(y) && code[(x - QUIET_ZONE, y - QUIET_ZONE)] == Color::Dark;
            assert_eq!(*grey == 0, dark, "pixel {index}");
        }
    }

    #[test]
    fn the_svg_fills_exactly_the_dark_modules() {
        let code = QrCode::with_error_correction_level(TO, EcLevel::M).unwrap();
        let svg = svg(TO).unwrap();
        assert!(svg.contains(&format!(r#"viewBox="0 0 {0} {0}""#, code.width() + 8)), "{svg}");
        let path = svg.split("fill=\"#000\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        let mut drawn = 0;
        for run in path.split_terminator('z') {
            let (at, lengths) = run.strip_prefix('M').unwrap().split_once('h').unwrap();
            let (x, y) = at.split_once(' ').unwrap();
            let (x, y): (usize, usize) = (x.parse().unwrap(), y.parse().unwrap());
            let length: usize = lengths.split('v').next().unwrap().parse().unwrap();
            for x in x..x + length {
                assert_eq!(code[(x - QUIET_ZONE, y - QUIET_ZONE)], Color::Dark);
                drawn += 1;
            }
        }
        assert_eq!(drawn, code.to_colors().iter().filter(|color| **color == Color::Dark).count());
    }

    #[test]
    fn a_text_that_does_not_fit_is_refused() {
        assert!(matches!(svg(&"x".repeat(4000)), Err(QrError::Text(_))));
        assert!(matches!(png(&"x".repeat(4000)), Err(QrError::Text(_))));
    }
}
