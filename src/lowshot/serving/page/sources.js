// The pad and the camera in a dialog, for the images of one class.

import { createCamera } from "./camera.js";
import { button, byId } from "./dom.js";
import { foundFile } from "./folders.js";
import { createPad } from "./pad.js";
import { counted } from "./words.js";

/** Draw ("draw") or photograph ("camera") images for the class of a card (see cards.js). */
export function drawing(card, kind) {
  const dialog = byId("source-dialog");
  const title = card.value().name.trim() || "this class";
  let count = 0;
  const add = async (file) => {
    const [refused] = await card.add([foundFile(file)]);
    if (!refused) count += 1;
    byId("source-count").textContent = refused ?? `${counted(count, "image")} added`;
  };
  const pad = kind === "draw" ? createPad(() => (keep.disabled = pad.isEmpty())) : null;
  const camera = kind === "camera" ? createCamera(add) : null;
  const keep = button(
    "Add the drawing",
    async () => {
      const file = new File([await pad.blob()], `drawing ${card.value().images.length + 1}.png`, {
        type: "image/png",
      });
      pad.clear();
      await add(file);
    },
    { class: "primary", disabled: true },
  );
  byId("source-title").textContent = kind === "draw" ? `Draw ${title}` : `Photograph ${title}`;
  byId("source-body").replaceChildren((pad ?? camera).element);
  byId("source-count").textContent = "";
  byId("source-actions").replaceChildren(
    ...(pad ? [keep] : []),
    button("Done", () => dialog.close()),
  );
  dialog.addEventListener("close", () => camera?.stop(), { once: true });
  dialog.showModal();
}
