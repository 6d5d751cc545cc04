// SPDX-License-Identifier: Apache-2.0

package closure

// Limits on what is read to propose a declaration. Any user of the machine may have written the
// files.
const (
	maxLinks     = 40        // links on the way to one path, as the kernel follows
	maxListed    = 4096      // names of one folder that a search looks at
	maxPrograms  = 128       // commands that are followed
	maxNested    = 8         // interpreters, and programs that start programs, of one command
	maxObjects   = 8192      // executables and libraries that are read
	maxHeaders   = 64 << 10  // bytes of program headers, as the kernel reads
	maxDynamic   = 256 << 10 // bytes of the dynamic section
	maxNames     = 1024      // names in one dynamic section
	maxName      = 4096      // bytes of one such name
	maxNotes     = 64 << 10  // bytes of ELF notes of one file
	maxTexts     = 64 << 10  // bytes of the names in one dynamic section
	maxObjectful = 64 << 20  // bytes of the names in all of them
	maxCache     = 16 << 20  // bytes of ld.so.cache
	maxCached    = 200_000   // libraries in it
	maxText      = 1 << 20   // bytes of a text file: ld.so.conf, pyvenv.cfg, .pth, an argument file
	maxIncluded  = 256       // files of ld.so.conf, argument files, archives with a class path
	maxPaths     = 256       // folders of one search path
	maxVariables = 1024      // variables of one file
	maxArchive   = 1 << 30   // bytes of a JAR
	maxDirectory = 16 << 20  // bytes of its list of files, and of what else of it is read
	maxOthers    = 20        // files of one kind that are named one by one
	maxWords     = 400       // things that are said not to be covered
	maxLinked    = 256       // files that links in covered folders lead to
	maxFolders   = 256       // folders that are proposed
	maxSteps     = 20 << 20  // look-ups in folders, of all that is done: about a minute
	maxModules   = 4096      // shared libraries in covered folders that are read
	maxPackages  = 20_000    // packages of Debian that are searched
	maxPackage   = 256 << 20 // bytes of their lists
	maxProcesses = 512       // processes of a unit that are looked at
	maxTable     = 131_072   // names in /proc, and files of one kind that a running unit uses
	maxMaps      = 16 << 20  // bytes of /proc/PID/maps
	maxOpen      = 4096      // descriptors of a process that are looked at
)
