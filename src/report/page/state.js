// Which pictures are wanted, and who wants to know.
const items = data.items;
const everything = () => ({ words: "", label: null, from: 0, to: 1, order: "given" });
let wanted = everything();
let hits = items.map((_, n) => n);
const listeners = [];

const haystacks = items.map((item) =>
  [item.uri, item.id, ...Object.entries(item.tags).map(([key, value]) => key + "=" + value), bestOf(item)?.[0]]
    .filter((text) => text != null)
    .map((text) => text + "\n" + shown(text))
    .join("\n")
    .toLowerCase(),
);

// A range ends before its upper end, except at the top.
const inRange = (x, from, to) => x >= from && (x < to || (to >= 1 && x <= 1));
const everyScore = () => wanted.from <= 0 && wanted.to >= 1;

function isWanted(item, n) {
  const best = bestOf(item);
  if (wanted.label !== null && best?.[0] !== wanted.label) return false;
  if (!everyScore() && !(best && inRange(best[1], wanted.from, wanted.to))) return false;
  return wanted.words.toLowerCase().split(/\s+/).every((word) => haystacks[n].includes(word));
}

// Changes what is wanted; everybody is told.
function want(change) {
  wanted = { ...wanted, ...change };
  hits = items.map((_, n) => n).filter((n) => isWanted(items[n], n));
  const by = (n) => bestOf(items[n])?.[1] ?? Infinity;
  if (wanted.order === "unsure") hits.sort((a, b) => by(a) - by(b));
  if (wanted.order === "sure") hits.sort((a, b) => (bestOf(items[b])?.[1] ?? -Infinity) - (bestOf(items[a])?.[1] ?? -Infinity));
  listeners.forEach((listener) => listener());
}

// As `want`, and goes to the pictures.
function show(change) {
  want(change);
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  byId("pictures").scrollIntoView({ behavior: calm ? "auto" : "smooth" });
}
