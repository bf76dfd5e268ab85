// Every text with too little contrast, and everything that can be reached and has no name (WCAG 2.2: 1.4.3, 4.1.2).
() => {
  const problems = [];
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const seen = (element) => element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length > 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !seen(element) || element.closest("script, style, title, desc")) continue;
    const style = getComputedStyle(element);
    if (style.clipPath === "inset(50%)") continue; // read aloud only
    const front = rgba(element.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const [light, dark] = [luminance(front), luminance(behind(element))].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) problems.push(`contrast ${ratio.toFixed(2)}: ${node.data.trim().slice(0, 40)}`);
  }
  const named = (element) =>
    (element.getAttribute("aria-label") ?? "").trim() ||
    [...(element.labels ?? [])].some((label) => label.textContent.trim()) ||
    element.textContent.trim() ||
    (element.getAttribute("title") ?? "").trim();
  for (const element of document.querySelectorAll("a[href], button, input, select, summary, [tabindex], [role=region]")) {
    if (seen(element) && !named(element)) problems.push(`no name: ${element.outerHTML.slice(0, 80)}`);
  }
  for (const image of document.querySelectorAll("img:not([alt])")) problems.push(`no alt: ${image.outerHTML.slice(0, 80)}`);
  for (const svg of document.querySelectorAll("svg[role=img]")) {
    if (!svg.querySelector("title")?.textContent || !svg.querySelector("desc")?.textContent) problems.push("svg without text");
  }
  for (const box of document.querySelectorAll("*")) {
    const scrolls = box.scrollWidth > box.clientWidth + 1 && ["auto", "scroll"].includes(getComputedStyle(box).overflowX);
    if (scrolls && seen(box) && box.tabIndex < 0) problems.push(`cannot be scrolled by keys: ${box.className}`);
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of new Set(ids)) if (ids.filter((each) => each === id).length > 1) problems.push(`id twice: ${id}`);
  const levels = [...document.querySelectorAll("h1, h2, h3, h4")].map((heading) => Number(heading.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1) problems.push("not one h1");
  levels.forEach((level, at) => { if (at && level > levels[at - 1] + 1) problems.push(`heading jumps to h${level}`); });
  if (!document.documentElement.lang || !document.title) problems.push("no language or title");
  return [...new Set(problems)];
}
