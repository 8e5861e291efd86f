import { PNG } from 'pngjs';

/** A PNG of nothing: colours that run and a disc, different for each seed. */
export function picture(seed: number, [width, height]: [number, number] = [320, 200]): Buffer {
  const png = new PNG({ width, height });
  for (let i = 0; i < width * height; i++) {
    const [x, y] = [i % width, Math.floor(i / width)];
    const disc = Math.hypot(x - 40 - seed * 60, y - height / 2) < 30;
    png.data.set(disc ? [255, 40 * seed, 0, 255] : [x % 256, (y * (seed + 1)) % 256, 90, 255], i * 4);
  }
  return PNG.sync.write(png);
}
