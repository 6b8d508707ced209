/** What a restored photograph is called, and in which format it can be saved. */

/** Formats that browsers can encode, by media type. */
const SUFFIXES = { "image/jpeg": ["jpg", "jpeg", "jpe", "jfif"], "image/png": ["png"], "image/webp": ["webp"] };

/**
 * Media type to save a photograph in: its own where a browser can encode it, else PNG, which loses nothing.
 * @param {string} type media type of the original
 * @param {boolean} clear whether it has transparent pixels, which a JPEG cannot keep
 * @param {boolean} [webp] whether this browser encodes WebP
 * @returns {string}
 */
export function savedType(type, clear, webp = true) {
  if (type === "image/jpeg" && !clear) return type;
  return type === "image/webp" && webp ? type : "image/png";
}

/**
 * Name to save under: `beach.jpg` becomes `beach-restored.jpg`; the ending changes only when the format does.
 * @param {string} name of the original, such as a path or nothing at all
 * @param {string} type media type of what is saved
 * @returns {string}
 */
export function savedName(name, type) {
  const file = name.split(/[/\\]/).pop() ?? "", dot = file.lastIndexOf(".");
  const stem = (dot > 0 ? file.slice(0, dot) : file) || "photograph", ending = dot > 0 ? file.slice(dot + 1) : "";
  const known = SUFFIXES[type] ?? [ending];
  return `${stem}-restored.${known.includes(ending.toLowerCase()) ? ending : known[0]}`;
}

/**
 * The same name made different from those taken: `a.jpg`, `a-2.jpg`, ...
 * @param {string} name
 * @param {Set<string>} taken gets the result
 * @returns {string}
 */
export function freeName(name, taken) {
  const dot = name.lastIndexOf("."), end = dot > 0 ? dot : name.length;
  let free = name;
  for (let number = 2; taken.has(free); number++) free = `${name.slice(0, end)}-${number}${name.slice(end)}`;
  taken.add(free);
  return free;
}
