"""Builds src_cython/engine.pyx once for each instruction set and dtype.

Every build is the same C file under other compiler flags, as rnncore/engine/builds.py lists them;
`rnncore.engine` picks one at its first use. RNNCORE_BUILDS names the instruction sets to build
(default: all that the compiler knows), RNNCORE_CFLAGS adds compiler flags, for example for a
sanitizer.
"""

import os
import platform
import runpy
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

SOURCE = Path("src_cython")
TABLE = Path("rnncore/engine/builds.py")
BUILDS = {build.name: build for build in runpy.run_path(str(TABLE))["possible"](platform.machine())}
FLAGS = ["-O3", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast",
         "-fvisibility=hidden", "-fno-strict-aliasing", "-Wno-unused-function", "-Wno-psabi",
         "-Wno-discarded-qualifiers", "-g0"]


def wanted_builds():
    names = list(BUILDS)
    chosen = os.environ.get("RNNCORE_BUILDS")
    if not chosen:
        return names
    asked = chosen.replace(",", " ").split()
    unknown = [name for name in asked if name not in names]
    if unknown:
        sys.exit(f"RNNCORE_BUILDS: {', '.join(unknown)} is not a build of this machine; "
                 f"choose from {', '.join(names)}.")
    return asked


def extensions():
    yield Extension("rnncore.engine.processor", [str(SOURCE / "processor.pyx")],
                    depends=[str(TABLE)])
    pieces = [str(p) for p in SOURCE.rglob("*") if p.suffix in (".h", ".pxi", ".pyx")]
    for name in wanted_builds():
        build = BUILDS[name]
        for bits in (32, 64):
            yield Extension(
                f"rnncore.engine.kernels_{name}_f{bits}",
                [str(SOURCE / "engine.pyx")],
                include_dirs=[str(SOURCE), numpy.get_include()],
                define_macros=[("REAL_BITS", bits), ("VECTOR_BYTES", build.vector_bytes),
                               ("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
                extra_compile_args=[*FLAGS, *build.flags,
                                    *os.environ.get("RNNCORE_CFLAGS", "").split()],
                extra_link_args=["-pthread", *os.environ.get("RNNCORE_LDFLAGS", "").split()],
                depends=pieces)


def write_checks(folder):
    """Write builds.h, by which `processor` asks for what each build needs."""
    lines = ["static const char *const build_names[] = {"]
    lines += [f'    "{name}",' for name in BUILDS]
    lines += ["};", f"#define BUILD_COUNT {len(BUILDS)}", "static int build_runs(int build)", "{",
              "    switch (build) {"]
    for number, build in enumerate(BUILDS.values()):
        checks = [f'__builtin_cpu_supports("{feature}")' for feature in build.features]
        lines.append(f"    case {number}: return {' && '.join(checks) or '1'};")
    lines += ["    }", "    return 0;", "}"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "builds.h").write_text("\n".join(lines) + "\n")


class Build(build_ext):
    """One C file for all extensions, each compiled in a folder of its own, side by side."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = None

    def build_extensions(self):
        compiler = self.compiler.compiler_so[0]
        if shutil.which(compiler) is None:
            sys.exit(f"rnncore: building needs a C compiler (GCC or Clang), and {compiler!r} was "
                     "not found; install one (Debian: apt install gcc; macOS: xcode-select "
                     "--install) or set CC to it.")
        modules = [Extension("kernels", [str(SOURCE / "engine.pyx")]),
                   Extension("processor", [str(SOURCE / "processor.pyx")])]
        write_checks(Path(self.build_temp))
        engine, processor = cythonize(modules, build_dir=self.build_temp, force=self.force)
        for extension in self.extensions:
            which = processor if extension.name.endswith("processor") else engine
            extension.sources = which.sources
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(self.build_one, self.extensions))

    def build_one(self, extension):
        target = self.get_ext_fullpath(extension.name)
        inputs = [*extension.depends, *extension.sources, __file__]
        if (not self.force and Path(target).exists() and
                all(Path(target).stat().st_mtime > Path(p).stat().st_mtime for p in inputs)):
            return
        folder = Path(self.build_temp) / extension.name
        try:
            objects = self.compiler.compile(
                extension.sources, output_dir=str(folder), macros=extension.define_macros,
                include_dirs=[*extension.include_dirs, self.build_temp],
                extra_postargs=extension.extra_compile_args)
        except CompileError:
            if "baseline" in extension.name or extension.name.endswith("processor"):
                raise
            print(f"rnncore: this compiler does not build {extension.name}; left out")
            return
        self.compiler.link_shared_object(
            objects, target, extra_postargs=extension.extra_link_args, target_lang="c")


setup(ext_modules=list(extensions()), cmdclass={"build_ext": Build})
