// A canvas as sharp as the screen.

/** The canvas's context, cleared and in the page's pixels; null where the browser draws on none, or the canvas is not shown. */
export function cleared(canvas: HTMLCanvasElement): { context: CanvasRenderingContext2D; width: number; height: number } | null {
  const { clientWidth: width, clientHeight: height } = canvas;
  const context = canvas.getContext("2d");
  if (context === null || width === 0) return null;
  const sharp = [Math.round(width * devicePixelRatio), Math.round(height * devicePixelRatio)] as const;
  // Setting a size takes new memory, even where it is the same.
  if (canvas.width !== sharp[0] || canvas.height !== sharp[1]) [canvas.width, canvas.height] = sharp;
  context.setTransform(sharp[0] / width, 0, 0, sharp[1] / height, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** A colour of the page's style. */
export const colour = (canvas: HTMLCanvasElement, name: string): string => getComputedStyle(canvas).getPropertyValue(name);
