// The entry point of miniprogram_dist: DevTools and phones load CommonJS.

import { createYufu } from './index'

declare const module: { exports: unknown }

module.exports = { createYufu }
