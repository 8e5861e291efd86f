/** The fixed inputs of every probe: each process answers the same ones, so that devices can be compared (M8). */

export const PROBE_TEXTS: readonly string[] = ['a red button that says OK', 'the icon of a folder'];

/** A PNG of 24 × 16 pixels, two ramps and a checkerboard, in base64. */
export const PROBE_IMAGES: readonly string[] = [
  'iVBORw0KGgoAAAANSUhEUgAAABgAAAAQCAIAAACDRijCAAAAUklEQVR4Aa3BMRHDABADMPXOkxfTKJjCDcBCyPLSh28ppZRSSiml' +
    'nlJKKaWUUkrMiZgTMSdiTsSciDkRcyL2ePfzJuZEzImYEzEnYk7EnIg58QeUiAPhGF1P6QAAAABJRU5ErkJggg==',
];
