// The rules that matter most, where axe-core is not at hand: contrast of texts and marks, names of images and regions.
() => {
  const complaints = [];
  const parse = (text) => {
    const numbers = text.match(/[\d.]+/g).map(Number);
    return { rgb: numbers.slice(0, 3), alpha: numbers.length > 3 ? numbers[3] : 1 };
  };
  const luminance = ({ rgb }) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, two) => {
    const [low, high] = [luminance(one), luminance(two)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const background = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.alpha > 0) return color;
    }
    return { rgb: [255, 255, 255] };
  };
  const visible = (element) => element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length;
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !visible(element) || ["SCRIPT", "STYLE", "title", "desc"].includes(element.tagName)) continue;
    const style = getComputedStyle(element), inSvg = element.namespaceURI.endsWith("svg");
    const ratio = contrast(parse(inSvg ? style.fill : style.color), background(element));
    if (ratio < 4.5) complaints.push(`contrast ${ratio.toFixed(2)}: ${element.textContent.trim().slice(0, 40)}`);
  }
  for (const mark of document.querySelectorAll(".mark, .stroke, .bar, .guide")) {
    if (!visible(mark)) continue;
    const style = getComputedStyle(mark), hollow = ["hollow", "once"].some((name) => mark.classList.contains(name));
    const color = mark.classList.contains("mark") && !hollow ? style.fill : style.stroke;
    const ratio = contrast(parse(color), background(mark));
    if (ratio < 3) complaints.push(`contrast ${ratio.toFixed(2)} of ${mark.getAttribute("class")}`);
  }
  for (const image of document.images) if (!image.alt) complaints.push("an image has no alt text");
  for (const svg of document.querySelectorAll("svg:not([aria-hidden])")) {
    const names = (svg.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => document.getElementById(id));
    if (svg.getAttribute("role") !== "img" || !names.length || names.some((node) => !node?.textContent.trim())) {
      complaints.push("a chart has no title or description");
    }
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of new Set(ids.filter((id, at) => ids.indexOf(id) !== at))) complaints.push(`the id ${id} is not unique`);
  for (const element of document.querySelectorAll("[tabindex], button, summary, a")) {
    if (!(element.getAttribute("aria-label") ?? element.textContent).trim()) complaints.push("a control has no name");
  }
  let level = 1;
  for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
    const now = Number(heading.tagName[1]);
    if (now > level + 1) complaints.push(`heading ${heading.textContent} skips a level`);
    level = now;
  }
  for (const needed of ["main", "title", "html[lang]"]) if (!document.querySelector(needed)) complaints.push(`no ${needed}`);
  return [...new Set(complaints)];
}
