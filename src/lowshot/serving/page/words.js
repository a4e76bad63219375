// Numbers as a person reads them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** A share as percent, with the sign's thin space: 0.971 is "97.1 %"; never rounded up to certainty. */
export function percent(share) {
  if (share > 0.999 && share < 1) return "> 99.9\u202f%";
  if (share > 0 && share < 0.001) return "< 0.1\u202f%";
  return `${(100 * share).toFixed(1)}\u202f%`;
}

export function bytes(count) {
  if (count < 1000) return `${count} bytes`;
  if (count < 1e6) return `${short(count / 1e3)} KB`;
  return count < 1e9 ? `${short(count / 1e6)} MB` : `${short(count / 1e9)} GB`;
}

export function seconds(count) {
  if (count < 90) return `${count < 10 ? count.toFixed(1) : whole.format(count)} s`;
  const rounded = Math.round(count);
  return `${Math.floor(rounded / 60)} min ${rounded % 60} s`;
}

/** "1 image", "3 images", "2 classes". */
export function counted(count, one, many = `${one}s`) {
  return `${whole.format(count)} ${count === 1 ? one : many}`;
}

/** How many held-out images were right: "9 of 12 held-out images right". */
export const heldOut = ({ right, images }) => `${right} of ${counted(images, "held-out image")} right`;

const short = (value) => (value < 10 ? value.toFixed(1).replace(/\.0$/, "") : whole.format(value));
