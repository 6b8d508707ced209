/** What the first bytes of a file say: its format, size and frames, before a browser takes memory to decode it. */

/** @typedef {{type: string, width: number, height: number, animated: boolean}} Header width 0: not known from here */

const text = (view, at, length) => {
  let out = "";
  for (let i = at; i < Math.min(at + length, view.byteLength); i++) out += String.fromCharCode(view.getUint8(i));
  return out;
};

/**
 * @param {ArrayBuffer} buffer the file, or enough of its beginning
 * @returns {Header|null} null for what is no image of a known format
 */
export function readHeader(buffer) {
  const view = new DataView(buffer);
  try {
    if (text(view, 0, 8) === "\x89PNG\r\n\x1a\n") return png(view);
    if (text(view, 0, 3) === "\xff\xd8\xff") return jpeg(view);
    if (text(view, 0, 4) === "RIFF" && text(view, 8, 4) === "WEBP") return webp(view);
    if (/^GIF8[79]a/.test(text(view, 0, 6)))
      return { type: "image/gif", width: view.getUint16(6, true), height: view.getUint16(8, true), animated: true };
    if (text(view, 0, 2) === "BM")
      return { type: "image/bmp", width: view.getInt32(18, true), height: Math.abs(view.getInt32(22, true)), animated: false };
  } catch (error) {
    if (error instanceof RangeError) return { type: "", width: 0, height: 0, animated: false }; // cut off: decoding tells
    throw error;
  }
  if (/^(II\*\0|MM\0\*)/.test(text(view, 0, 4))) return { type: "image/tiff", width: 0, height: 0, animated: false };
  if (/^ftypavi[fs]/.test(text(view, 4, 8)))
    return { type: "image/avif", width: 0, height: 0, animated: text(view, 8, 4) === "avis" };
  if (/^ftyp(hei|hev|mif|msf)/.test(text(view, 4, 7))) return { type: "image/heic", width: 0, height: 0, animated: false };
  return null;
}

function png(view) {
  let animated = false;
  for (let at = 33; at + 8 <= view.byteLength; at += 12 + view.getUint32(at)) {
    const kind = text(view, at + 4, 4);
    if (kind === "acTL") animated = true;
    if (kind === "IDAT" || animated) break;
  }
  return { type: "image/png", width: view.getUint32(16), height: view.getUint32(20), animated };
}

function jpeg(view) {
  for (let at = 2; ; at += 2 + view.getUint16(at + 2)) {
    while (view.getUint8(at) === 0xff && view.getUint8(at + 1) === 0xff) at++; // fill bytes
    const marker = view.getUint8(at + 1);
    if (view.getUint8(at) !== 0xff) return { type: "image/jpeg", width: 0, height: 0, animated: false };
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker))
      return { type: "image/jpeg", width: view.getUint16(at + 7), height: view.getUint16(at + 5), animated: false };
  }
}

function webp(view) {
  const kind = text(view, 12, 4), three = (at) => view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
  const header = { type: "image/webp", width: 0, height: 0, animated: false };
  if (kind === "VP8X")
    return { ...header, width: 1 + three(24), height: 1 + three(27), animated: (view.getUint8(20) & 2) !== 0 };
  if (kind === "VP8L") {
    const bits = view.getUint32(21, true);
    return { ...header, width: 1 + (bits & 0x3fff), height: 1 + ((bits >> 14) & 0x3fff) };
  }
  return { ...header, width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff };
}
